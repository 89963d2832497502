// Numbers as the tables have them: rounded as Python does, ties to the even digit.
const numbers = (() => {
  "use strict";

  function fixed(value, digits) {
    const scaled = value * 10 ** digits;
    // a tie is one only if the number in binary is: times a power of two it is whole
    const isTie = Number.isInteger(value * 2 ** (digits + 1)) && Math.abs(scaled % 1) === 0.5;
    if (!isTie) return value.toFixed(digits);
    const below = Math.floor(scaled);
    return ((below % 2 === 0 ? below : below + 1) / 10 ** digits).toFixed(digits);
  }

  const percent = (share) => fixed(100 * share, 1);
  // `73.5 % [67.0, 79.2]`
  const interval = ({ accuracy, low, high }) => `${percent(accuracy)} % [${percent(low)}, ${percent(high)}]`;

  // `+1.2`, `−0.3`
  const signed = (value, digits) => (value < 0 ? "−" : "+") + fixed(Math.abs(value), digits);

  return { fixed, percent, interval, signed };
})();
