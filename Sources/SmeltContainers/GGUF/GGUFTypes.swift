// The types of GGUF: what a tensor's blocks are called and how large they are, and what a metadata value can be.
// Formats/gguf.md has both tables.

package import SmeltStorage

/// How a GGUF tensor's elements are stored: a block of so many elements takes so many bytes.
package struct GGUFTensorType: Sendable, Hashable, CustomStringConvertible {
  /// The number that stands in the file.
  package let id: UInt32
  /// The name as ggml spells it.
  package let name: String
  /// Elements in one block; a row is a whole number of blocks.
  package let blockElements: Int
  /// Bytes of one block.
  package let blockBytes: Int

  /// The name.
  package var description: String { name }

  /// Every type in use, by number. Source: ggml's `type_traits`, version 0.25.
  package static let all: [GGUFTensorType] = [
    .init(0, "F32", 1, 4), .init(1, "F16", 1, 2), .init(2, "Q4_0", 32, 18), .init(3, "Q4_1", 32, 20),
    .init(6, "Q5_0", 32, 22), .init(7, "Q5_1", 32, 24), .init(8, "Q8_0", 32, 34), .init(9, "Q8_1", 32, 36),
    .init(10, "Q2_K", 256, 84), .init(11, "Q3_K", 256, 110), .init(12, "Q4_K", 256, 144),
    .init(13, "Q5_K", 256, 176), .init(14, "Q6_K", 256, 210), .init(15, "Q8_K", 256, 292),
    .init(16, "IQ2_XXS", 256, 66), .init(17, "IQ2_XS", 256, 74), .init(18, "IQ3_XXS", 256, 98),
    .init(19, "IQ1_S", 256, 50), .init(20, "IQ4_NL", 32, 18), .init(21, "IQ3_S", 256, 110),
    .init(22, "IQ2_S", 256, 82), .init(23, "IQ4_XS", 256, 136), .init(24, "I8", 1, 1), .init(25, "I16", 1, 2),
    .init(26, "I32", 1, 4), .init(27, "I64", 1, 8), .init(28, "F64", 1, 8), .init(29, "IQ1_M", 256, 56),
    .init(30, "BF16", 1, 2), .init(34, "TQ1_0", 256, 54), .init(35, "TQ2_0", 256, 66),
    .init(39, "MXFP4", 32, 17), .init(40, "NVFP4", 64, 36), .init(41, "Q1_0", 128, 18),
    .init(42, "Q2_0", 64, 18),
  ]

  /// Types that ggml had and took out again, by number; no reader of today has them.
  package static let removed: [UInt32: String] = [
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
  ]

  private static let byID = Dictionary(uniqueKeysWithValues: all.map { ($0.id, $0) })

  /// The type of a number, or nil when no type in use has it.
  package static func named(_ id: UInt32) -> GGUFTensorType? { byID[id] }

  /// The type of a name as ggml spells it, or nil when no type in use has it.
  package static func named(_ name: String) -> GGUFTensorType? { all.first { $0.name == name } }

  private init(_ id: UInt32, _ name: String, _ elements: Int, _ bytes: Int) {
    self.id = id
    self.name = name
    blockElements = elements
    blockBytes = bytes
  }
}

/// What a metadata value can be; the raw value stands in the file.
package enum GGUFValueType: UInt32, Sendable, CaseIterable {
  case u8, i8, u16, i16, u32, i32, f32, bool, string, array, u64, i64, f64

  /// Bytes of one value; nil for those that bring their own length.
  package var byteCount: Int? {
    switch self {
    case .u8, .i8, .bool: 1
    case .u16, .i16: 2
    case .u32, .i32, .f32: 4
    case .u64, .i64, .f64: 8
    case .string, .array: nil
    }
  }
}

/// A metadata value.
package enum GGUFValue: Sendable {
  case u8(UInt8)
  case i8(Int8)
  case u16(UInt16)
  case i16(Int16)
  case u32(UInt32)
  case i32(Int32)
  case f32(Float)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
  case u64(UInt64)
  case i64(Int64)
  case f64(Double)

  /// The value's type.
  package var type: GGUFValueType {
    switch self {
    case .u8: .u8
    case .i8: .i8
    case .u16: .u16
    case .i16: .i16
    case .u32: .u32
    case .i32: .i32
    case .f32: .f32
    case .bool: .bool
    case .string: .string
    case .array: .array
    case .u64: .u64
    case .i64: .i64
    case .f64: .f64
    }
  }

  /// The number, whatever width the writer chose; nil for a value that is not an integer or is above 2^63 - 1.
  package var integer: Int? {
    switch self {
    case .u8(let value): Int(value)
    case .i8(let value): Int(value)
    case .u16(let value): Int(value)
    case .i16(let value): Int(value)
    case .u32(let value): Int(value)
    case .i32(let value): Int(value)
    case .u64(let value): Int(exactly: value)
    case .i64(let value): Int(value)
    default: nil
    }
  }

  /// The number of a floating-point value, or nil.
  package var float: Double? {
    switch self {
    case .f32(let value): Double(value)
    case .f64(let value): value
    default: nil
    }
  }

  /// The text, or nil.
  package var string: String? { if case .string(let value) = self { value } else { nil } }

  /// The truth value, or nil.
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }

  /// The array, or nil.
  package var array: GGUFArray? { if case .array(let value) = self { value } else { nil } }

  /// A value of fixed size at the start of `bytes`, which are enough; nil for strings, arrays and a bool that is
  /// neither 0 nor 1.
  static func fixed(_ type: GGUFValueType, _ bytes: UnsafeRawBufferPointer) -> GGUFValue? {
    // SAFETY: `bytes` must have the type's `byteCount`; callers take that many from a reader, which checks.
    func load<T: FixedWidthInteger>(_: T.Type) -> T { T(littleEndian: bytes.loadUnaligned(as: T.self)) }
    switch type {
    case .u8: return .u8(load(UInt8.self))
    case .i8: return .i8(load(Int8.self))
    case .u16: return .u16(load(UInt16.self))
    case .i16: return .i16(load(Int16.self))
    case .u32: return .u32(load(UInt32.self))
    case .i32: return .i32(load(Int32.self))
    case .f32: return .f32(Float(bitPattern: load(UInt32.self)))
    case .bool: return bytes[0] > 1 ? nil : .bool(bytes[0] == 1)
    case .u64: return .u64(load(UInt64.self))
    case .i64: return .i64(load(Int64.self))
    case .f64: return .f64(Double(bitPattern: load(UInt64.self)))
    case .string, .array: return nil
    }
  }
}

/// An array of a metadata value: checked when the file is opened, decoded when it is asked for, so that a vocabulary
/// that nobody reads costs nothing.
package struct GGUFArray: Sendable {
  /// What the elements are; never arrays.
  package let elementType: GGUFValueType
  /// The number of elements.
  package let count: Int
  /// The elements as they stand in the file.
  package let bytes: Bytes

  /// An array whose bytes were checked: whole elements, strings of UTF-8, bools of 0 and 1.
  init(_ type: GGUFValueType, count: Int, checked bytes: Bytes) {
    elementType = type
    self.count = count
    self.bytes = bytes
  }

  /// The elements as values.
  package var values: [GGUFValue] {
    guard let size = elementType.byteCount else { return (strings ?? []).map { .string($0) } }
    return bytes.withUnsafeBytes { all in
      (0..<count).compactMap { index in
        let start = index * size
        return GGUFValue.fixed(elementType, UnsafeRawBufferPointer(rebasing: all[start..<start + size]))
      }
    }
  }

  /// The texts of an array of strings; nil for another array.
  package var strings: [String]? {
    guard elementType == .string else { return nil }
    // SAFETY: whoever made the array has walked its strings to the end (`checked`)
    return bytes.withUnsafeBytes { all in
      var position = 0
      return (0..<count).map { _ in
        let length = Int(UInt64(littleEndian: all.loadUnaligned(fromByteOffset: position, as: UInt64.self)))
        position += 8 + length
        return String(decoding: all[position - length..<position], as: UTF8.self)
      }
    }
  }

  /// The numbers of an array of integers of any width; nil for another array or a number above 2^63 - 1.
  package var integers: [Int]? {
    let numbers = values.compactMap(\.integer)
    return numbers.count == count && elementType != .string ? numbers : nil
  }

  /// The numbers of an array of floating-point values; nil for another array.
  package var floats: [Double]? {
    elementType == .f32 || elementType == .f64 ? values.compactMap(\.float) : nil
  }

  /// The truth values of an array of bools; nil for another array.
  package var bools: [Bool]? { elementType == .bool ? values.compactMap(\.bool) : nil }
}
