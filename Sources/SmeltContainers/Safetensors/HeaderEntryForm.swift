// The form in which nearly every writer leaves a tensor's entry of a safetensors header, read from its bytes. Whatever differs is
// left to the JSON reader, which knows all forms and all refusals.

internal import SmeltTensors

/// `{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}`: these members in this order, white space of blanks alone, every rule of
/// Formats/safetensors.md about one tensor kept.
struct HeaderEntryForm {
  /// The element type.
  private(set) var dtype = DType.f32
  /// The dimensions; equal ones of neighbours share their memory.
  private(set) var shape: Shape = []
  /// First byte and end, counted from the start of the data.
  private(set) var begin = 0
  private(set) var end = 0
  /// Where the list of offsets stands, and the byte behind the entry.
  private(set) var offsetsPlace = 0
  private(set) var place = 0

  private var dimensions: [Int] = []
  private var recent: [Shape] = []
  private var oldest = 0
  /// Where in the bytes a type was spelled first.
  private var types: [(Range<Int>, DType)] = []

  /// Reads the entry that begins at a byte of the header, the same bytes each time; false, and no property has a meaning, where it is of another form or breaks a rule.
  mutating func read(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Bool {
    // SAFETY: `place` is compared with the count before each byte is read (`next`, `literal`).
    place = start
    guard literal("{", bytes), literal("\"dtype\"", bytes), literal(":", bytes), readType(bytes),
      literal(",", bytes), literal("\"shape\"", bytes), literal(":", bytes), readNumbers(bytes),
      dimensions.count <= SafetensorsHeader.rankLimit, let needed = byteCount
    else { return false }
    shape = shared()
    guard literal(",", bytes), literal("\"data_offsets\"", bytes), literal(":", bytes) else { return false }
    skipBlanks(bytes)
    offsetsPlace = place
    guard readNumbers(bytes), dimensions.count == 2, literal("}", bytes) else { return false }
    (begin, end) = (dimensions[0], dimensions[1])
    return begin <= end && end - begin == needed
  }

  /// The bytes that type and dimensions need; nil where they cannot be counted or are no whole number.
  private var byteCount: Int? {
    var most = 1
    var isEmpty = false
    for dimension in dimensions {
      let (product, overflow) = most.multipliedReportingOverflow(by: max(1, dimension))
      if overflow { return nil }
      most = product
      isEmpty = isEmpty || dimension == 0
    }
    let (bits, overflow) = most.multipliedReportingOverflow(by: dtype.bits)
    guard !overflow else { return nil }
    if isEmpty { return 0 }
    return bits % 8 == 0 ? bits / 8 : nil
  }

  /// The shape of `dimensions`, the memory of an equal one among the last few if there is one.
  private mutating func shared() -> Shape {
    if let known = recent.first(where: { $0.dimensions == dimensions }) { return known }
    let new = Shape(Array(dimensions))
    if recent.count < 8 {
      recent.append(new)
    } else {
      recent[oldest] = new
      oldest = (oldest + 1) % 8
    }
    return new
  }

  private mutating func skipBlanks(_ bytes: UnsafeRawBufferPointer) {
    while place < bytes.count, bytes[place] == 0x20 { place += 1 }
  }

  /// Passes a text, and blanks before it.
  private mutating func literal(_ text: StaticString, _ bytes: UnsafeRawBufferPointer) -> Bool {
    skipBlanks(bytes)
    let count = text.utf8CodeUnitCount
    guard place + count <= bytes.count else { return false }
    for offset in 0..<count where bytes[place + offset] != text.utf8Start[offset] { return false }
    place += count
    return true
  }

  /// The type's name between quotes.
  private mutating func readType(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard literal("\"", bytes) else { return false }
    let start = place
    while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
      guard place - start < 16 else { return false }
      place += 1
    }
    guard place < bytes.count else { return false }
    let spelling = UnsafeRawBufferPointer(rebasing: bytes[start..<place])
    place += 1
    for (range, known) in types where range.count == spelling.count {
      if (0..<range.count).allSatisfy({ bytes[range.lowerBound + $0] == spelling[$0] }) {
        dtype = known
        return true
      }
    }
    guard let found = DType(rawValue: String(decoding: spelling, as: UTF8.self)) else { return false }
    dtype = found
    types.append((start..<start + spelling.count, found))
    return true
  }

  /// A list of whole numbers of 0 to 2^53 without leading zeros, into `dimensions`.
  private mutating func readNumbers(_ bytes: UnsafeRawBufferPointer) -> Bool {
    dimensions.removeAll(keepingCapacity: true)
    guard literal("[", bytes) else { return false }
    if literal("]", bytes) { return true }
    repeat {
      skipBlanks(bytes)
      let start = place
      var number = 0
      while place < bytes.count, case let digit = bytes[place] &- UInt8(ascii: "0"), digit < 10 {
        guard place - start < 16 else { return false }
        number = number * 10 + Int(digit)
        place += 1
      }
      let isPlain = place == start + 1 || (place > start && bytes[start] != UInt8(ascii: "0"))
      guard isPlain, number <= SafetensorsHeader.numberLimit, dimensions.count <= SafetensorsHeader.rankLimit
      else { return false }
      dimensions.append(number)
    } while literal(",", bytes)
    return literal("]", bytes)
  }
}
