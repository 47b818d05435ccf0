// A session over gRPC with npm's @grpc/grpc-js. What may be asked is learnt from the server itself, by
// reflection (grpc.reflection.v1alpha): no file of ours is read. GRPC_TARGET, DEVICE_TOKEN and CA_PATH
// (empty: no TLS) say where; what was answered is told as one line of JSON.
'use strict';

const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const SERVICE = 'voiceingest.v1.SessionService';
const OPTIONS = { keepCase: true, enums: String, longs: Number, defaults: true };

// The part of reflection.proto that is used here, as protobufjs reads it.
const REFLECTION = {
  nested: { grpc: { nested: { reflection: { nested: { v1alpha: { nested: {
    ServerReflection: { methods: { ServerReflectionInfo: {
      requestType: 'ServerReflectionRequest', requestStream: true,
      responseType: 'ServerReflectionResponse', responseStream: true,
    } } },
    ServerReflectionRequest: {
      oneofs: { message_request: { oneof: ['file_by_filename', 'file_containing_symbol'] } },
      fields: { host: { type: 'string', id: 1 }, file_by_filename: { type: 'string', id: 3 },
        file_containing_symbol: { type: 'string', id: 4 } },
    },
    ServerReflectionResponse: { fields: { file_descriptor_response: { type: 'FileDescriptorResponse', id: 4 } } },
    FileDescriptorResponse: { fields: { file_descriptor_proto: { rule: 'repeated', type: 'bytes', id: 1 } } },
  } } } } } } },
};

// A FileDescriptorSet holds its files as its field 1.
function setOf(files) {
  const parts = [];
  for (const file of files) {
    const head = [0x0a];
    let length = file.length;
    while (length > 0x7f) { head.push((length & 0x7f) | 0x80); length >>= 7; }
    head.push(length);
    parts.push(Buffer.from(head), file);
  }
  return Buffer.concat(parts);
}

function reflect(target, credentials) {
  const { ServerReflection } = grpc.loadPackageDefinition(loader.fromJSON(REFLECTION, OPTIONS)).grpc.reflection.v1alpha;
  const client = new ServerReflection(target, credentials);
  return new Promise((resolve, reject) => {
    const call = client.ServerReflectionInfo();
    call.on('error', reject);
    call.on('data', (answer) => {
      call.end();
      client.close();
      resolve(answer.file_descriptor_response.file_descriptor_proto);
    });
    call.write({ file_containing_symbol: SERVICE });
  });
}

function ask(client, method, request, metadata) {
  return new Promise((resolve) => {
    client[method](request, metadata, { deadline: Date.now() + 60000 }, (error, answer) => {
      resolve(error ? { status: error.code, code: error.metadata.get('voiceingest-code')[0] } : answer);
    });
  });
}

async function main() {
  const { GRPC_TARGET: target, DEVICE_TOKEN: token, CA_PATH: ca } = process.env;
  const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure();
  const files = await reflect(target, credentials);
  const definition = loader.loadFileDescriptorSetFromBuffer(setOf(files), OPTIONS);
  const Service = grpc.loadPackageDefinition(definition).voiceingest.v1.SessionService;
  const client = new Service(target, credentials);
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  // Read from a descriptor, a map is what it is on the wire: repeated entries.
  const struct = (key, value) => ({ fields: [{ key, value }] });
  const config = struct('sampleRate', { number_value: 24000 });
  const started = (await ask(client, 'StartSession', { audio_config: config }, metadata)).session;
  const id = { session_id: started.session_id };
  const got = (await ask(client, 'GetSessionStatus', id, metadata)).session;
  await ask(client, 'UpdateSessionConfig', { ...id, metadata: struct('order', { string_value: '7' }) }, metadata);
  const listed = (await ask(client, 'ListSessions', {}, metadata)).sessions;
  const stopped = (await ask(client, 'StopSession', id, metadata)).session;
  const again = await ask(client, 'StopSession', id, metadata);
  const stranger = await ask(client, 'ListSessions', {}, new grpc.Metadata());
  client.close();
  console.log(JSON.stringify({
    started: started.status, got: got.status, listed: listed.map((one) => one.session_id === id.session_id),
    order: listed[0].metadata.fields[0].value.string_value, stopped: stopped.status, again, stranger,
  }));
}

main().catch((error) => { console.error(error); process.exit(1); });
