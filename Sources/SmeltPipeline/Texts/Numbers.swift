// Numbers for people. Machines get JSON.

/// A number with a fixed count of decimals.
package func fixed(_ value: Double, _ decimals: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var scale = 1.0
  for _ in 0..<decimals { scale *= 10 }
  let scaled = (abs(value) * scale).rounded()
  guard scaled < 9e18 else { return "\(value)" }
  let whole = String(UInt64(scaled))
  let padded = String(repeating: "0", count: max(0, decimals + 1 - whole.count)) + whole
  let split = padded.index(padded.endIndex, offsetBy: -decimals)
  return (value < 0 && scaled > 0 ? "-" : "") + padded[..<split]
    + (decimals > 0 ? "." + padded[split...] : "")
}

/// A small number with three digits: `1.23e-04`.
package func scientific(_ value: Double) -> String {
  guard value.isFinite, value != 0 else { return value == 0 ? "0" : "\(value)" }
  var exponent = 0
  var mantissa = abs(value)
  while mantissa >= 9.995 {
    mantissa /= 10
    exponent += 1
  }
  while mantissa < 0.9995 {
    mantissa *= 10
    exponent -= 1
  }
  let digits = String(abs(exponent))
  return (value < 0 ? "-" : "") + fixed(mantissa, 2) + "e" + (exponent < 0 ? "-" : "+")
    + (digits.count < 2 ? "0" + digits : digits)
}

/// A whole number with its thousands apart: `17 850`.
package func grouped(_ value: Int) -> String {
  var digits = String(value.magnitude)
  var groups: [String] = []
  while digits.count > 3 {
    groups.insert(String(digits.suffix(3)), at: 0)
    digits.removeLast(3)
  }
  groups.insert(digits, at: 0)
  return (value < 0 ? "-" : "") + groups.joined(separator: " ")
}
