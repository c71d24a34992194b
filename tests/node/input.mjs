// What every client starts with: its task as JSON on stdin, and the answer as one line of JSON on stdout.
import { webcrypto } from "node:crypto";
import { text } from "node:stream/consumers";

globalThis.crypto ??= webcrypto; // Node 18 has it as a module only

export const input = JSON.parse(await text(process.stdin));

export function answer(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

// What a call was refused with, in the words of GitHub; null if it was not refused.
export async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    if (error.status === undefined) throw error;
    return { status: error.status, message: error.response?.data?.message ?? error.message, headers: error.response?.headers ?? {} };
  }
}
