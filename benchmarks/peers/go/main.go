// The same job in Go, with gorilla/websocket and redigo as Debian packages them.
//
// It does: RS256 on the upgrade (golang-jwt), start and started, the envelope of each frame published
// to Redis pub/sub, ack every 10 frames once Redis has confirmed them, stop and stopped; calls of
// Exotel (media in JSON and base64) to the same envelope. The constant parts of the envelope are built
// once a stream, buffers are pooled, commands are pipelined over one connection, as redigo's manual
// says (one goroutine sends and flushes when nothing more waits, one receives). As in gorilla's own
// example each connection has a goroutine that reads and one that writes.
// It does not: resume, take over, pace or drop, time out, ping, count, log, or connect again.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt"
	"github.com/gomodule/redigo/redis"
	"github.com/gorilla/websocket"
)

const (
	ackInterval  = 10
	maxFrame     = 65536
	queueLength  = 1024
	pendingLimit = 4096
)

type stream struct {
	socket         *websocket.Conn
	prefix, middle []byte
	seq            int64
	acked          bool
	confirmed      int64
	final          int64
	wake           chan struct{}
}

type item struct {
	from *stream
	body *[]byte
}

var (
	queue   = make(chan item, queueLength)
	pending = make(chan *stream, pendingLimit)
	bodies  = sync.Pool{New: func() interface{} { body := make([]byte, 0, 16384); return &body }}

	upgrader = websocket.Upgrader{
		WriteBufferPool: &sync.Pool{},
		CheckOrigin:     func(*http.Request) bool { return true },
	}
)

// publish sends what waits and flushes when nothing more does.
func publish(bus redis.Conn) {
	for next := range queue {
		for more := true; more; {
			if err := bus.Send("PUBLISH", "audio:frames", *next.body); err != nil {
				log.Fatal(err)
			}
			// redigo has copied or written it.
			*next.body = (*next.body)[:0]
			bodies.Put(next.body)
			select {
			case pending <- next.from:
			default:
				if err := bus.Flush(); err != nil {
					log.Fatal(err)
				}
				pending <- next.from
			}
			select {
			case next = <-queue:
			default:
				more = false
			}
		}
		if err := bus.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

// confirm takes the replies, which come in the order of the commands.
func confirm(bus redis.Conn) {
	for from := range pending {
		if _, err := bus.Receive(); err != nil {
			log.Fatal(err)
		}
		confirmed := atomic.AddInt64(&from.confirmed, 1)
		if confirmed%ackInterval == 0 || confirmed == atomic.LoadInt64(&from.final) {
			from.notify()
		}
	}
}

func (s *stream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) frame(audio []byte) {
	s.seq++
	body := bodies.Get().(*[]byte)
	b := append(*body, s.prefix...)
	b = strconv.AppendInt(b, s.seq, 10)
	b = append(b, `,"timestamp_ms":`...)
	b = strconv.AppendInt(b, time.Now().UnixMilli(), 10)
	b = append(b, s.middle...)
	at, size := len(b), base64.StdEncoding.EncodedLen(len(audio))
	if cap(b)-at < size+2 {
		grown := make([]byte, at, at+size+2)
		copy(grown, b)
		b = grown
	}
	b = b[:at+size]
	base64.StdEncoding.Encode(b[at:], audio)
	*body = append(b, `"}`...)
	queue <- item{s, body}
}

func (s *stream) envelope(tenant, interaction string, rate int) {
	t, _ := json.Marshal(tenant)
	i, _ := json.Marshal(interaction)
	s.prefix = []byte(`{"tenant_id":` + string(t) + `,"interaction_id":` + string(i) + `,"seq":`)
	s.middle = []byte(`,"sample_rate":` + strconv.Itoa(rate) + `,"encoding":"pcm16","audio":"`)
}

// write is the only one that writes to the connection once the stream has started.
func (s *stream) write(gone <-chan struct{}) {
	defer s.socket.Close()
	told := int64(0)
	for {
		select {
		case <-s.wake:
		case <-gone:
			return
		}
		confirmed := atomic.LoadInt64(&s.confirmed)
		if acked := confirmed - confirmed%ackInterval; s.acked && acked > told {
			told = acked
			text := `{"event":"ack","seq":` + strconv.FormatInt(acked, 10) + `}`
			if s.socket.WriteMessage(websocket.TextMessage, []byte(text)) != nil {
				return
			}
		}
		if final := atomic.LoadInt64(&s.final); final >= 0 && confirmed >= final {
			if s.acked {
				text := `{"event":"stopped","received":` + strconv.FormatInt(final, 10) + `,"published":` +
					strconv.FormatInt(confirmed, 10) + `,"dropped":0}`
				s.socket.WriteMessage(websocket.TextMessage, []byte(text))
			}
			s.socket.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
			return
		}
	}
}

func (s *stream) stop() {
	atomic.StoreInt64(&s.final, s.seq)
	s.notify()
}

func upgraded(w http.ResponseWriter, r *http.Request) (*stream, chan struct{}) {
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, nil
	}
	socket.SetReadLimit(2 * maxFrame)
	s := &stream{socket: socket, final: -1, wake: make(chan struct{}, 1)}
	return s, make(chan struct{})
}

// each calls take for every message, in one buffer that is used again.
func (s *stream) each(take func(kind int, message []byte) bool) {
	var buffer bytes.Buffer
	for {
		kind, reader, err := s.socket.NextReader()
		if err != nil {
			return
		}
		buffer.Reset()
		if _, err = buffer.ReadFrom(reader); err != nil || !take(kind, buffer.Bytes()) {
			return
		}
	}
}

type command struct {
	Event         string `json:"event"`
	InteractionID string `json:"interaction_id"`
	TenantID      string `json:"tenant_id"`
	SampleRate    int    `json:"sample_rate"`
}

func ingest(key interface{}) http.HandlerFunc {
	parser := jwt.Parser{ValidMethods: []string{"RS256"}}
	return func(w http.ResponseWriter, r *http.Request) {
		claims := jwt.MapClaims{}
		bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, err := parser.ParseWithClaims(bearer, claims, func(*jwt.Token) (interface{}, error) { return key, nil })
		if err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		s, gone := upgraded(w, r)
		if s == nil {
			return
		}
		defer close(gone)
		s.acked = true
		go s.write(gone)
		s.each(func(kind int, message []byte) bool {
			if kind == websocket.BinaryMessage {
				if s.prefix == nil || len(message) == 0 || len(message)%2 != 0 || len(message) > maxFrame {
					return false
				}
				s.frame(message)
				return true
			}
			var told command
			if json.Unmarshal(message, &told) != nil {
				return false
			}
			switch {
			case told.Event == "start" && s.prefix == nil && told.TenantID == claims["tenant_id"]:
				s.envelope(told.TenantID, told.InteractionID, told.SampleRate)
				started, _ := json.Marshal(map[string]interface{}{
					"event": "started", "interaction_id": told.InteractionID, "tenant_id": told.TenantID,
					"sample_rate": told.SampleRate, "encoding": "pcm16", "ack_interval": ackInterval,
				})
				// Nothing is written by the other goroutine before the first frame.
				return s.socket.WriteMessage(websocket.TextMessage, started) == nil
			case told.Event == "stop":
				s.stop()
				return true
			}
			return false
		})
	}
}

type call struct {
	Event string `json:"event"`
	Start struct {
		CallSid     string `json:"call_sid"`
		MediaFormat struct {
			SampleRate string `json:"sample_rate"`
		} `json:"media_format"`
	} `json:"start"`
	Media struct {
		Payload []byte `json:"payload"`
	} `json:"media"`
}

func calls(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		s, gone := upgraded(w, r)
		if s == nil {
			return
		}
		defer close(gone)
		go s.write(gone)
		s.each(func(_ int, message []byte) bool {
			var told call
			if json.Unmarshal(message, &told) != nil {
				return false
			}
			switch told.Event {
			case "start":
				rate, _ := strconv.Atoi(told.Start.MediaFormat.SampleRate)
				s.envelope("exotel", told.Start.CallSid, rate)
			case "media":
				if s.prefix == nil || len(told.Media.Payload) == 0 || len(told.Media.Payload)%2 != 0 {
					return false
				}
				s.frame(told.Media.Payload)
			case "stop":
				s.stop()
			}
			return true
		})
	}
}

func main() {
	pem, err := os.ReadFile(os.Getenv("JWT_PUBLIC_KEY_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(pem)
	if err != nil {
		log.Fatal(err)
	}
	bus, err := redis.Dial("tcp", "127.0.0.1:"+os.Getenv("REDIS_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	go publish(bus)
	go confirm(bus)
	http.HandleFunc("/v1/ingest", ingest(key))
	http.HandleFunc("/voicebot/ws", calls(os.Getenv("EXOTEL_WS_TOKEN")))
	go func() {
		log.Fatal(http.ListenAndServeTLS("127.0.0.1:"+os.Getenv("TLS_PORT"),
			os.Getenv("SSL_CERT_PATH"), os.Getenv("SSL_KEY_PATH"), nil))
	}()
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PLAIN_PORT"), nil))
}
