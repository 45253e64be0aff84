// Metadata values on their way into a file: arrays made from Swift's own, and their bytes. GGUFTypes.swift has the way
// back.

internal import SmeltStorage

extension GGUFArray {
  /// An array of texts.
  package init(strings: [String]) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(strings.reduce(0) { $0 + 8 + $1.utf8.count })
    for text in strings { bytes.append(longString: text) }
    self.init(.string, count: strings.count, checked: Bytes(bytes))
  }

  /// An array of truth values.
  package init(bools: [Bool]) { self.init(.bool, bools.map { $0 ? 1 : 0 } as [UInt8]) }

  /// An array of 8-bit numbers.
  package init(u8: [UInt8]) { self.init(.u8, u8) }

  /// An array of signed 8-bit numbers.
  package init(i8: [Int8]) { self.init(.i8, i8) }

  /// An array of 16-bit numbers.
  package init(u16: [UInt16]) { self.init(.u16, u16) }

  /// An array of signed 16-bit numbers.
  package init(i16: [Int16]) { self.init(.i16, i16) }

  /// An array of 32-bit numbers.
  package init(u32: [UInt32]) { self.init(.u32, u32) }

  /// An array of signed 32-bit numbers.
  package init(i32: [Int32]) { self.init(.i32, i32) }

  /// An array of 64-bit numbers.
  package init(u64: [UInt64]) { self.init(.u64, u64) }

  /// An array of signed 64-bit numbers.
  package init(i64: [Int64]) { self.init(.i64, i64) }

  /// An array of floating-point numbers.
  package init(f32: [Float]) { self.init(.f32, f32.map(\.bitPattern)) }

  /// An array of floating-point numbers in double precision.
  package init(f64: [Double]) { self.init(.f64, f64.map(\.bitPattern)) }

  private init(_ type: GGUFValueType, _ values: [some FixedWidthInteger]) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count * (type.byteCount ?? 0))
    for value in values { bytes.append(littleEndian: value) }
    self.init(type, count: values.count, checked: Bytes(bytes))
  }

  /// The bytes of the longest text; 0 for an array of others.
  var longestString: Int {
    guard elementType == .string else { return 0 }
    // SAFETY: as in `strings`
    return bytes.withUnsafeBytes { all in
      var position = 0
      var longest = 0
      while position < all.count {
        let length = Int(UInt64(littleEndian: all.loadUnaligned(fromByteOffset: position, as: UInt64.self)))
        longest = max(longest, length)
        position += 8 + length
      }
      return longest
    }
  }
}

extension GGUFValue {
  /// The bytes of a value that can be long; a fixed size is not worth counting.
  var longByteCount: Int {
    switch self {
    case .string(let text): text.utf8.count
    case .array(let array): array.bytes.count
    default: 0
    }
  }

  /// The value as it stands in a file, behind its type.
  package var storedBytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: type.rawValue)
    append(to: &bytes)
    return bytes
  }

  /// Appends the value as it stands in a file, without its type.
  func append(to header: inout [UInt8]) {
    switch self {
    case .u8(let value): header.append(value)
    case .i8(let value): header.append(littleEndian: value)
    case .u16(let value): header.append(littleEndian: value)
    case .i16(let value): header.append(littleEndian: value)
    case .u32(let value): header.append(littleEndian: value)
    case .i32(let value): header.append(littleEndian: value)
    case .f32(let value): header.append(littleEndian: value.bitPattern)
    case .bool(let value): header.append(value ? 1 : 0)
    case .u64(let value): header.append(littleEndian: value)
    case .i64(let value): header.append(littleEndian: value)
    case .f64(let value): header.append(littleEndian: value.bitPattern)
    case .string(let value): header.append(longString: value)
    case .array(let value):
      header.append(littleEndian: value.elementType.rawValue)
      header.append(littleEndian: UInt64(value.count))
      value.bytes.withUnsafeBytes { header.append(contentsOf: $0) }
    }
  }
}

extension [UInt8] {
  /// A length of 64 bits and the text in UTF-8.
  mutating func append(longString text: String) {
    append(littleEndian: UInt64(text.utf8.count))
    append(contentsOf: text.utf8)
  }
}
