// Makes the npm package levada wrong on purpose, in the one way that LEVADA_DEFECT names, by patching its public layer. Node loads this
// by itself before the adapter (NODE_OPTIONS=--require). `conformance/selftest/defects.yaml` names the cases that must notice.

const { Admin, Consumer, Delivery, Messages } = require("../../bindings-node/dist/index.js");

/** Puts `change` around a method: it is given the original, bound, and the arguments. */
function patch(type, name, change) {
  const original = type.prototype[name];
  type.prototype[name] = function (...args) {
    return change((...given) => original.apply(this, given), ...args);
  };
}

let received = 0;
const isSeventh = () => ++received % 7 === 0;

const DEFECTS = {
  none() {},

  /** Leaves out every seventh message received. */
  "drop-seventh"() {
    patch(Consumer, "receive", async (receive, ...args) => {
      const message = await receive(...args);
      return message !== null && isSeventh() ? receive(...args) : message;
    });
    patch(Messages, Symbol.iterator, function* (iterate) {
      for (const message of iterate()) if (!isSeventh()) yield message;
    });
  },

  /** Tells TOPIC_NOT_FOUND as STREAM_NOT_FOUND. */
  "wrong-code"() {
    for (const name of Object.getOwnPropertyNames(Admin.prototype).filter((name) => name !== "constructor")) {
      patch(Admin, name, async (call, ...args) => {
        try {
          return await call(...args);
        } catch (error) {
          if (error.code === "LEVADA_TOPIC_NOT_FOUND") Object.assign(error, { code: "LEVADA_STREAM_NOT_FOUND", errno: error.errno - 1 });
          throw error;
        }
      });
    }
  },

  /** Tells the offset of the next message in receipts; `send` waits for a delivery. */
  "offset-plus-one"() {
    patch(Delivery, "wait", async (wait, ...args) => {
      const receipt = await wait(...args);
      return { ...receipt, offset: receipt.offset + 1n };
    });
  },
};

DEFECTS[process.env.LEVADA_DEFECT]();
