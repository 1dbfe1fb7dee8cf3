// An independent reader of the published vectors: built-in crypto only, written from the specification.
import { createCipheriv, createHash, createHmac, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const sha = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
let agreed = 0;
const same = (found, name) => { assert.equal(found, vectors[name], name); agreed += 1; };

// Recording: keys, frames, root.
const dek = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const header = Buffer.from(vectors["rec.header_json"]);
const salt = Buffer.from(JSON.parse(header).salt, "hex");
const info = Buffer.concat([Buffer.from("grantd/rec/v1/AEAD_AES_256_GCM\0"), salt, sha(header)]);
const one = createHmac("sha512", dek).update(Buffer.concat([info, Buffer.from([1])])).digest();
const two = createHmac("sha512", dek).update(Buffer.concat([one, info, Buffer.from([2])])).digest();
const keys = Buffer.concat([one, two]);
const [key, base, commit] = [keys.subarray(0, 32), keys.subarray(32, 44), keys.subarray(44, 76)];
same(key.toString("hex"), "rec.key");
same(base.toString("hex"), "rec.base_nonce");
same(commit.toString("hex"), "rec.commit");
const length = Buffer.alloc(4);
length.writeUInt32BE(header.length + 32);
const start = Buffer.concat([Buffer.from("894752454331 0d0a".replace(" ", ""), "hex"), length, header, commit]);
same(sha(start).toString("hex"), "rec.header_sha256");

function nonce(seq, final) {
  const counter = Buffer.alloc(12);
  counter.writeBigUInt64BE(BigInt(seq), 3);
  counter[11] = final;
  return Buffer.from(base.map((byte, i) => byte ^ counter[i]));
}
same(nonce(0, 0).toString("hex"), "rec.nonce(seq=0)");
same(nonce(1, 1).toString("hex"), "rec.nonce(seq=1,final)");

function frame(type, flags, seq, time, plain) {
  const fh = Buffer.alloc(32);
  fh.write("GRF1");
  fh[4] = type;
  fh[5] = flags;
  fh.writeBigUInt64BE(BigInt(seq), 8);
  fh.writeBigUInt64BE(BigInt(time), 16);
  fh.writeUInt32BE(plain.length, 24);
  fh.writeUInt32BE(plain.length + 16, 28);
  const cipher = createCipheriv("aes-256-gcm", key, nonce(seq, flags >> 7));
  cipher.setAAD(Buffer.concat([sha(start), fh]));
  return Buffer.concat([fh, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}
const frame0 = frame(1, 0, 0, 0, Buffer.from(vectors["rec.events_pt"], "hex"));
const frame1 = frame(4, 0x80, 1, 1000, Buffer.from('{"dur":1000,"events":2}'));
same(frame0.toString("hex"), "rec.frame0");
same(frame1.toString("hex"), "rec.frame1");
const leaf = (data) => sha(Buffer.from([0]), data);
const node = (left, right) => sha(Buffer.from([1]), left, right);
same(node(node(leaf(start), leaf(frame0)), leaf(frame1)).toString("hex"), "rec.root");

// Log: leaf, verifier key, checkpoint signature; disclosure.
same(leaf(Buffer.from(vectors["log.entry"])).toString("hex"), "log.leaf");
const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, 7)]);
const secret = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
const raw = createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(-32);
const origin = "grantd.example/c1/audit/t1";
const typed = Buffer.concat([Buffer.from([1]), raw]);
const id = sha(Buffer.from(`${origin}\n`), typed).subarray(0, 4);
same(`${origin}+${id.toString("hex")}+${typed.toString("base64")}`, "log.vkey");
const text = `${origin}\n1\n${Buffer.from(vectors["log.leaf"], "hex").toString("base64")}\n`;
const signature = sign(null, Buffer.from(text), secret);
assert(verify(null, Buffer.from(text), createPublicKey(secret), signature));
const line = `\u2014 ${origin} ${Buffer.concat([id, signature]).toString("base64")}`;
assert.equal(`${text}\n${line}`, vectors["log.checkpoint"].trimEnd());
agreed += 1;
same(createHash("sha256").update(vectors["sd.disclosure"]).digest("base64url"), "sd.digest");
console.log(`agreed on ${agreed} values`);
