// An ingest session with npm's ws; see ../clients/__init__.py for what it is told and tells.
"use strict";

const fs = require("fs");
const WebSocket = require("ws");

const { WS_URL, CA_PATH, JWT_TOKEN, TENANT_ID, INTERACTION_ID } = process.env;
const FRAMES = 25;
const FRAME_BYTES = 9600;
const DEADLINE_MS = 20000;

const options = (token) => ({
  headers: { Authorization: `Bearer ${token}` },
  ca: CA_PATH ? fs.readFileSync(CA_PATH) : undefined,
});

function session() {
  const told = { acks: [] };
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(WS_URL, options(JWT_TOKEN));
    socket.on("error", reject);
    socket.on("open", () => {
      socket.send(
        JSON.stringify({
          event: "start",
          interaction_id: INTERACTION_ID,
          tenant_id: TENANT_ID,
          sample_rate: 24000,
          encoding: "pcm16",
        }),
      );
    });
    socket.on("message", (data) => {
      const message = JSON.parse(data.toString());
      if (message.event === "ack") {
        told.acks.push(message.seq);
        return;
      }
      told[message.event] = message;
      if (message.event === "started") {
        for (let seq = 1; seq <= FRAMES; seq += 1) {
          socket.send(Buffer.alloc(FRAME_BYTES, seq));
        }
        socket.send(JSON.stringify({ event: "stop" }));
      }
    });
    socket.on("close", (code) => resolve({ ...told, close: code }));
  });
}

function refusal() {
  return new Promise((resolve) => {
    const socket = new WebSocket(WS_URL, options("not.a.token"));
    socket.on("open", () => resolve(101));
    socket.on("unexpected-response", (request, response) => {
      request.destroy();
      resolve(response.statusCode);
    });
    socket.on("error", () => {}); // destroying the request is reported here
  });
}

async function main() {
  const told = await session();
  const refused = await refusal();
  process.stdout.write(JSON.stringify({ ...told, refused }), () => process.exit(0));
}

setTimeout(() => process.exit(2), DEADLINE_MS);
main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
