// An ingot's first 64 bytes, the numbers that bound the format, and how its numbers are laid out.
// Formats/ingot.md, sections 1 and 2.

internal import SmeltStorage
internal import SmeltTensors

/// The numbers of Formats/ingot.md.
enum IngotLimits {
  static let magic: [UInt8] = [0x49, 0x4E, 0x47, 0x4F, 0x54, 0x0D, 0x0A, 0x1A]
  static let version: UInt32 = 2
  static let headerBytes = 64
  static let weightNameBytes = 1000
  static let rank = 8
  static let dimension: UInt64 = 1 << 40
  static let elements = 1 << 48
  static let fileBytes = 1 << 30
  static let fileRatio = 1000
  static let metadataBytes = 16 << 20
  static let encodings = 1000
  static let others = 65_536
  static let fileParts = 99_999
  static let rawBit: UInt32 = 1 << 31
  /// A layer or an expert that a weight does not have.
  static let none: UInt32 = .max

  /// The dtypes by their code in a frame record. Formats/ingot.md, 4.3.
  static let dtypes: [DType] = [
    .bool, .f4, .f6E2M3, .f6E3M2, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .i16, .u16,
    .f16,
    .bf16, .i32, .u32, .f32, .c64, .f64, .i64, .u64,
  ]
  /// The parts by their code in a frame record.
  static let parts: [PartName] = [.values, .scales, .globalScale, .zeroPoints, .groupIndex]

  /// What is wrong with a name that weights or files may not have, or nil. Rule I22.
  static func nameProblem(_ name: String, limit: Int) -> String? {
    let count = name.utf8.count
    guard count > 0 else { return "the name is empty" }
    guard count <= limit else { return "the name has \(count) bytes, expected at most \(limit)" }
    guard let bad = name.utf8.first(where: { !(0x20...0x7E).contains($0) }) else { return nil }
    return "the name holds the byte 0x\(String(bad, radix: 16)), expected printable ASCII"
  }

  /// What is wrong with the name of a file, or nil. Rules I22 and I27.
  static func fileNameProblem(_ name: String) -> String? { CarriedName.problem(name) }

  /// What is wrong with the name of a note, or nil: it has no folder. Rule I27.
  static func noteNameProblem(_ name: String) -> String? {
    fileNameProblem(name)
      ?? (name.utf8.contains(0x2F) ? "the name is a path, expected a bare name" : nil)
  }
}

/// An ingot's header. Formats/ingot.md, section 2.
struct IngotHeader {
  var indexOffset: Int
  var indexLength: Int
  var indexChecksum: UInt32

  /// Reads and checks the first 64 bytes of a file (rules I1 to I5).
  init(_ bytes: Bytes, file: String) throws(FormatError) {
    func refuse(_ field: String, _ offset: Int, _ problem: String, help: String? = nil) -> FormatError {
      FormatError(.ingotHeader, file: file, subject: field, offset: offset, problem, help: help)
    }
    let head = bytes[0..<min(bytes.count, IngotLimits.headerBytes)]
    if head.array.starts(with: Array("version https://git-lfs".utf8)) {
      throw FormatError(.lfsPointer, file: file, offset: 0, "found a git-LFS pointer, expected an ingot")
    }
    guard head.count == IngotLimits.headerBytes else {
      throw refuse("header", 0, "the file has \(head.count) bytes, expected at least 64")
    }
    if head.array.allSatisfy({ $0 == 0 }) {
      throw refuse("header", 0, "found zeros, expected the magic", help: "the file was never finished")
    }
    guard head.array.starts(with: IngotLimits.magic) else {
      throw refuse(
        "magic", 0, "found other bytes than an ingot starts with", help: "the file is not an ingot")
    }
    var reader = ByteReader(head, file: file, code: .ingotHeader)
    _ = try reader.take(8, "magic")
    let readVersion = try reader.number(UInt32.self, "read version")
    let writeVersion = try reader.number(UInt32.self, "write version")
    guard readVersion == IngotLimits.version else {
      throw refuse(
        "read version", 8, "found \(readVersion), expected \(IngotLimits.version)",
        help: readVersion > IngotLimits.version
          ? "a newer Smelt wrote the file; read it with that one"
          : readVersion == 1
            ? "version 1 was never released; convert the model again from its source" : "the file is damaged")
    }
    let offset = try reader.number(UInt64.self, "index offset")
    let length = try reader.number(UInt64.self, "index length")
    indexChecksum = try reader.number(UInt32.self, "index checksum")
    let reserved = try reader.take(24, "flags and reserved bytes")
    let checksum = try reader.number(UInt32.self, "header checksum")
    let found = head[0..<60].withUnsafeBytes { CRC32C.hash($0) }
    guard checksum == found else {
      throw refuse("header checksum", 60, "found \(hexadecimal(found)), expected \(hexadecimal(checksum))")
    }
    guard writeVersion >= readVersion else {
      throw refuse("write version", 12, "found \(writeVersion), expected at least \(readVersion)")
    }
    guard reserved.array.allSatisfy({ $0 == 0 }) else {
      throw refuse("flags", 36, "found a reserved byte that is not zero")
    }
    let size = UInt64(bytes.count)
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard !overflow, offset >= UInt64(IngotLimits.headerBytes), end == size else {
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: 16,
        "found \(length) bytes at \(offset), expected them to end with the file at \(size)",
        help: !overflow && end < size
          ? "bytes follow the index: an interrupted change; cut the file to \(end) bytes"
          : "the file is cut short; copy it again")
    }
    indexOffset = Int(offset)
    indexLength = Int(length)
  }

  init(indexOffset: Int, index: [UInt8]) {
    self.indexOffset = indexOffset
    indexLength = index.count
    indexChecksum = index.withUnsafeBytes { CRC32C.hash($0) }
  }

  /// The 64 bytes.
  var bytes: [UInt8] {
    var bytes = IngotLimits.magic
    bytes.append(littleEndian: IngotLimits.version)
    bytes.append(littleEndian: IngotLimits.version)
    bytes.append(littleEndian: UInt64(indexOffset))
    bytes.append(littleEndian: UInt64(indexLength))
    bytes.append(littleEndian: indexChecksum)
    bytes += [UInt8](repeating: 0, count: 24)
    bytes.append(littleEndian: bytes.withUnsafeBytes { CRC32C.hash($0) })
    return bytes
  }
}

extension [UInt8] {
  /// Adds a number, little-endian.
  mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
    // SAFETY: a number's own bytes, copied.
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// Adds a string with its 16-bit length.
  mutating func append(string: String) {
    append(littleEndian: UInt16(string.utf8.count))
    append(contentsOf: string.utf8)
  }

  /// Adds a shape with its 8-bit rank.
  mutating func append(shape: Shape) {
    append(UInt8(shape.rank))
    for dimension in shape.dimensions { append(littleEndian: UInt64(dimension)) }
  }
}
