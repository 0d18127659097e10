// What the suites run against. scripts/test-clients.sh starts the servers and sets these variables.

/** `shardcast`, or `reference` for the npm socket.io server. */
export const TARGET = process.env.TARGET ?? "shardcast";
if (!["shardcast", "reference"].includes(TARGET)) throw new Error(`TARGET=${TARGET}: it is shardcast or reference`);

export const isReference = TARGET === "reference";

/** A skip option for a test that Node cannot pass. */
export const betterThanNode = { skip: isReference && "shardcast promises more than Node here" };

/** The address of one of the servers, such as `http://127.0.0.1:4000`. */
export function serverUrl(variable) {
  const url = process.env[variable];
  if (!url) throw new Error(`${variable} is not set: run the suites through scripts/test-clients.sh`);
  return url;
}

/** The limit on one message and one body, which the contract leaves at the default. */
export const MESSAGE_BYTES_MAX = 1_000_000;
