// The same job in Node, with ws, ioredis and jsonwebtoken.
//
// It does: RS256 on the upgrade, start and started, the envelope of each frame published to Redis
// pub/sub, ack every 10 frames once Redis has confirmed them, stop and stopped; calls of Exotel (media
// in JSON and base64) to the same envelope. As the manuals say: no compression, the native addon
// bufferutil for masks, no command waits for the answer to another, a socket that is ahead of Redis is
// paused. (enableAutoPipelining was tried: here it costs more than it saves, 10 us a frame.) The constant
// parts of the envelope are built once a stream.
// It does not: resume, take over, pace or drop, time out, ping, count, or log.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const Redis = require('ioredis');
const jwt = require('jsonwebtoken');
const { WebSocketServer } = require('ws');

const { env } = process;
const key = fs.readFileSync(env.JWT_PUBLIC_KEY_FILE);
const redis = new Redis({
  host: '127.0.0.1', port: Number(env.REDIS_PORT), enableAutoPipelining: false, noDelay: true,
});
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 131072 });

const ACK_INTERVAL = 10;
const AHEAD_MAX = 64;
const MAX_FRAME = 65536;

class Stream {
  constructor(socket, acked) {
    this.socket = socket;
    this.acked = acked;
    this.seq = 0;
    this.confirmed = 0;
    this.stopping = false;
    this.paused = false;
    this.prefix = null;
    this.onConfirmed = () => this.settle();
    this.onFailed = (error) => { throw error; };
  }

  begin(tenant, interaction, rate) {
    this.prefix = `{"tenant_id":${JSON.stringify(tenant)},"interaction_id":${JSON.stringify(interaction)},"seq":`;
    this.middle = `,"sample_rate":${rate},"encoding":"pcm16","audio":"`;
  }

  frame(audio) {
    this.seq += 1;
    const body = `${this.prefix}${this.seq},"timestamp_ms":${Date.now()}${this.middle}${audio.toString('base64')}"}`;
    redis.publish('audio:frames', body).then(this.onConfirmed, this.onFailed);
    if (this.seq - this.confirmed > AHEAD_MAX && !this.paused) {
      this.paused = true;
      this.socket.pause();
    }
  }

  settle() {
    this.confirmed += 1;
    if (this.paused && this.seq - this.confirmed < AHEAD_MAX / 2) {
      this.paused = false;
      this.socket.resume();
    }
    if (this.acked && this.confirmed % ACK_INTERVAL === 0) {
      this.socket.send(`{"event":"ack","seq":${this.confirmed}}`);
    }
    if (this.stopping) this.finish();
  }

  finish() {
    this.stopping = true;
    if (this.confirmed < this.seq) return;
    if (this.acked) {
      this.socket.send(`{"event":"stopped","received":${this.seq},"published":${this.confirmed},"dropped":0}`);
    }
    this.socket.close(1000);
  }
}

function ingest(socket, claims) {
  const stream = new Stream(socket, true);
  socket.on('message', (message, isBinary) => {
    if (isBinary) {
      if (stream.prefix === null || message.length === 0 || message.length % 2 || message.length > MAX_FRAME) {
        socket.close(1003);
        return;
      }
      stream.frame(message);
      return;
    }
    const told = JSON.parse(message);
    if (told.event === 'start' && stream.prefix === null && told.tenant_id === claims.tenant_id) {
      stream.begin(told.tenant_id, told.interaction_id, told.sample_rate);
      const { interaction_id, tenant_id, sample_rate } = told;
      socket.send(JSON.stringify({
        event: 'started', interaction_id, tenant_id, sample_rate, encoding: 'pcm16', ack_interval: ACK_INTERVAL,
      }));
    } else if (told.event === 'stop') stream.finish();
    else socket.close(1003);
  });
}

function call(socket) {
  const stream = new Stream(socket, false);
  socket.on('message', (message) => {
    const told = JSON.parse(message);
    if (told.event === 'media') {
      const audio = Buffer.from(told.media.payload, 'base64');
      if (stream.prefix === null || audio.length === 0 || audio.length % 2) socket.close(1003);
      else stream.frame(audio);
    } else if (told.event === 'start') {
      stream.begin('exotel', told.start.call_sid, Number(told.start.media_format.sample_rate));
    } else if (told.event === 'stop') stream.finish();
  });
}

function upgrade(request, tcp, head) {
  const bearer = (request.headers.authorization || '').replace(/^Bearer /, '');
  let claims = null;
  try {
    if (request.url === '/v1/ingest') claims = jwt.verify(bearer, key, { algorithms: ['RS256'] });
    else if (request.url !== '/voicebot/ws' || bearer !== env.EXOTEL_WS_TOKEN) throw new Error('refused');
  } catch {
    tcp.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, tcp, head, (socket) => {
    socket.on('error', () => socket.terminate());
    if (claims) ingest(socket, claims);
    else call(socket);
  });
}

http.createServer().on('upgrade', upgrade).listen(Number(env.PLAIN_PORT), '127.0.0.1', 1024);
const tls = { key: fs.readFileSync(env.SSL_KEY_PATH), cert: fs.readFileSync(env.SSL_CERT_PATH) };
https.createServer(tls).on('upgrade', upgrade).listen(Number(env.TLS_PORT), '127.0.0.1', 1024);
