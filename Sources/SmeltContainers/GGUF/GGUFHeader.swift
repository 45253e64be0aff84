// A GGUF header, from bytes to checked metadata and a checked list of tensors. Formats/gguf.md numbers the rules;
// nothing behind this door looks at a length, an offset or a name again.

internal import SmeltStorage
internal import SmeltTensors

/// The checked header of one file.
struct GGUFHeader {
  /// One tensor as the header states it.
  struct Entry {
    let name: String
    let type: GGUFTensorType
    /// Outermost first; the file has them the other way round.
    let shape: [Int]
    let byteCount: Int
    /// First byte, counted from the start of the data.
    let begin: Int
    /// Where the name and the offset stand in the file.
    let place: Int
    let offsetPlace: Int
  }

  /// The most tensors and keys: what ggml's own checks and every published file stay far below.
  static let tensorLimit: UInt64 = 1 << 18
  static let keyLimit: UInt64 = 1 << 16
  /// The longest key and the longest string.
  static let keyBytes: UInt64 = 65535
  static let stringBytes: UInt64 = 16 << 20
  /// A name of ggml has 63 bytes and a NUL.
  static let nameBytes: UInt64 = 63
  static let rankLimit: UInt32 = 4
  static let alignments = 8...65536

  let version: Int
  private(set) var metadata: [(key: String, value: GGUFValue)] = []
  /// Where each key stands in the file.
  private(set) var keyPlaces: [Int] = []
  private(set) var entries: [Entry] = []
  private(set) var alignment = 32
  /// The byte of the file where the data starts.
  private(set) var dataStart = 0
  private let file: String
  private var reader: ByteReader

  /// Reads and checks the header of the whole file `bytes`.
  init(_ bytes: Bytes, file: String) throws(FormatError) {
    self.file = file
    try PlaceholderFile.refusePointerAndPage(bytes, file: file, expected: "a GGUF file")
    try GGUFHeader.checkMagic(bytes, file: file)
    reader = ByteReader(bytes, file: file, code: .ggTruncated)
    _ = try reader.take(4, "magic")
    version = try GGUFHeader.version(&reader, file: file)
    let tensorPlace = reader.offset
    let tensorCount = try reader.number(UInt64.self, "n_tensors")
    let keyCount = try reader.number(UInt64.self, "n_kv")
    // A key takes 14 bytes at the very least, a tensor 33.
    try check("n_tensors", tensorCount, GGUFHeader.tensorLimit, each: 33, at: tensorPlace)
    try check("n_kv", keyCount, GGUFHeader.keyLimit, each: 14, at: tensorPlace + 8)
    try readMetadata(Int(keyCount))
    try readTensors(Int(tensorCount))
    try checkLayout(fileCount: bytes.count)
  }

  // MARK: magic, version, counts (rules 31 to 33)

  private static func checkMagic(_ bytes: Bytes, file: String) throws(FormatError) {
    let head = bytes[0..<min(bytes.count, 4)].array
    let magic = Array("GGUF".utf8)
    if head == magic { return }
    if head.count < 4 && magic.starts(with: head) {
      throw FormatError(
        .ggTruncated, file: file, offset: head.count,
        "found \(head.count) bytes, expected the 24 of the header at least")
    }
    let found: String
    switch String(decoding: head, as: UTF8.self) {
    case "FUGG": found = "a big-endian GGUF file"
    case "lmgg", "fmgg", "tjgg", "algg": found = "a file of a format before GGUF"
    default:
      found =
        PlaceholderFile.otherFormat(bytes)
        ?? "the bytes " + head.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }
    throw FormatError(.ggMagic, file: file, offset: 0, "found \(found), expected the bytes 'GGUF'")
  }

  private static func version(_ reader: inout ByteReader, file: String) throws(FormatError) -> Int {
    let place = reader.offset
    let version = try reader.number(UInt32.self, "version")
    if version == 2 || version == 3 { return Int(version) }
    if (1...3).contains(version.byteSwapped) {
      throw FormatError(
        .ggMagic, file: file, subject: "version", offset: place,
        "found a big-endian GGUF file of version \(version.byteSwapped), expected little-endian")
    }
    throw FormatError(
      .ggVersion, file: file, subject: "version", offset: place, "found \(version), expected 2 or 3")
  }

  private func check(_ field: String, _ count: UInt64, _ limit: UInt64, each: UInt64, at place: Int)
    throws(FormatError)
  {
    if count > limit {
      throw failure(.ggCount, field, place, "found \(Int64(bitPattern: count)), expected 0 to \(limit)")
    }
    if count * each > UInt64(reader.remaining) {
      throw failure(
        .ggCount, field, place,
        "found \(count), which need \(count * each) bytes, but \(reader.remaining) are left")
    }
  }

  // MARK: metadata (rules 34 to 38, 47)

  private mutating func readMetadata(_ count: Int) throws(FormatError) {
    var keys: Set<String> = []
    for _ in 0..<count {
      let place = reader.offset
      let key = try text("key", limit: GGUFHeader.keyBytes, code: .ggString)
      if let problem = GGUFHeader.problem(withKey: key) {
        throw failure(.ggString, key.isEmpty ? nil : excerpt(key), place, problem)
      }
      guard keys.insert(key).inserted else {
        throw failure(.ggDuplicate, excerpt(key), place, "found the key twice, expected it once")
      }
      let type = try valueType(key)
      let valuePlace = reader.offset
      let value = try value(type, key)
      if key == "general.alignment" { try align(value, valuePlace) }
      metadata.append((key, value))
      keyPlaces.append(place)
    }
  }

  private mutating func align(_ value: GGUFValue, _ place: Int) throws(FormatError) {
    if let problem = GGUFHeader.problem(withAlignment: value) {
      throw failure(.ggAlign, "general.alignment", place, problem)
    }
    alignment = value.integer ?? alignment
  }

  // MARK: what the writer must keep too (rules 34, 38, 39, 40)

  /// Why a text cannot be a key, or nil.
  static func problem(withKey key: String) -> String? {
    if key.isEmpty { return "the key is empty, expected 1 to 65,535 bytes" }
    if key.utf8.count > keyBytes {
      return "the key has \(key.utf8.count) bytes, expected at most \(keyBytes)"
    }
    return printable(key) == key ? nil : "the key holds control or invisible characters"
  }

  /// Why a value cannot be the alignment, or nil.
  static func problem(withAlignment value: GGUFValue) -> String? {
    guard case .u32(let number) = value else { return "found a value of type \(value.type), expected u32" }
    return number.nonzeroBitCount == 1 && alignments.contains(Int(number))
      ? nil : "found \(number), expected a power of two from 8 to 65,536"
  }

  /// The bytes of whole rows of a type, or nil when they cannot be counted in 63 bits.
  static func byteCount(_ type: GGUFTensorType, _ dimensions: [Int]) -> Int? {
    guard let elements = Shape.checkedCount(dimensions) else { return nil }
    let (bytes, overflow) = (elements / type.blockElements).multipliedReportingOverflow(by: type.blockBytes)
    return overflow ? nil : bytes
  }

  private mutating func valueType(_ key: String) throws(FormatError) -> GGUFValueType {
    let place = reader.offset
    let raw = try reader.number(UInt32.self, excerpt(key))
    guard let type = GGUFValueType(rawValue: raw) else {
      throw failure(.ggType, excerpt(key), place, "found the value type \(raw), expected 0 to 12")
    }
    return type
  }

  private mutating func value(_ type: GGUFValueType, _ key: String) throws(FormatError) -> GGUFValue {
    if type == .string { return .string(try text(key, limit: GGUFHeader.stringBytes, code: .ggString)) }
    guard let size = type.byteCount else { return .array(try array(key)) }
    let place = reader.offset
    let slice = try reader.take(size, excerpt(key))
    if let value = slice.withUnsafeBytes({ GGUFValue.fixed(type, $0) }) { return value }
    throw failure(.ggBool, excerpt(key), place, "found \(slice.array[0]), expected 0 or 1")
  }

  private mutating func array(_ key: String) throws(FormatError) -> GGUFArray {
    let typePlace = reader.offset
    let type = try valueType(key)
    if type == .array {
      throw failure(.ggType, excerpt(key), typePlace, "found an array of arrays, expected scalars or strings")
    }
    let countPlace = reader.offset
    let count = try reader.number(UInt64.self, excerpt(key))
    // A string takes the 8 bytes of its length.
    let (need, overflow) = count.multipliedReportingOverflow(by: UInt64(type.byteCount ?? 8))
    guard !overflow, need <= UInt64(reader.remaining) else {
      throw failure(
        .ggArray, excerpt(key), countPlace,
        "found \(count) elements of type \(type), but \(reader.remaining) bytes are left")
    }
    guard type != .string else { return try stringArray(key, Int(count)) }
    let place = reader.offset
    let slice = try reader.take(Int(need), excerpt(key))
    if type == .bool, let bad = slice.withUnsafeBytes({ $0.firstIndex { $0 > 1 } }) {
      throw failure(
        .ggBool, excerpt(key), place + bad, "found \(slice[bad..<bad + 1].array[0]), expected 0 or 1")
    }
    return GGUFArray(type, count: Int(count), checked: slice)
  }

  /// Walks the strings once, keeping none of them.
  private mutating func stringArray(_ key: String, _ count: Int) throws(FormatError) -> GGUFArray {
    let start = reader
    let place = reader.offset
    let rest = try reader.take(reader.remaining, excerpt(key))
    let file = file
    // SAFETY: each length is held against what is left before it is passed over.
    let length = try rest.withUnsafeBytes { (all) throws(FormatError) -> Int in
      var position = 0
      for _ in 0..<count {
        func failure(_ problem: String) -> FormatError {
          FormatError(.ggString, file: file, subject: excerpt(key), offset: place + position, problem)
        }
        guard all.count - position >= 8 else {
          throw failure("needs 8 bytes for a string's length, \(all.count - position) are left")
        }
        let length = UInt64(littleEndian: all.loadUnaligned(fromByteOffset: position, as: UInt64.self))
        let left = all.count - position - 8
        guard length <= min(GGUFHeader.stringBytes, UInt64(left)) else {
          throw failure(GGUFHeader.problem(length, limit: GGUFHeader.stringBytes, left: left))
        }
        let end = position + 8 + Int(length)
        guard GGUFHeader.isUTF8(all[position + 8..<end]) else { throw failure("the text is not UTF-8") }
        position = end
      }
      return position
    }
    reader = start
    return GGUFArray(.string, count: count, checked: try reader.take(length, excerpt(key)))
  }

  private static func isUTF8(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
    bytes.allSatisfy { $0 < 0x80 } || String(validating: bytes, as: UTF8.self) != nil
  }

  private static func problem(_ length: UInt64, limit: UInt64, left: Int) -> String {
    length > limit
      ? "found a length of \(length) bytes, expected at most \(limit)"
      : "found a length of \(length) bytes, but \(left) are left"
  }

  /// The next string: a 64-bit length and that many bytes of UTF-8.
  private mutating func text(_ field: String, limit: UInt64, code: ErrorCode) throws(FormatError) -> String {
    let place = reader.offset
    let length = try reader.number(UInt64.self, excerpt(field))
    guard length <= limit, length <= UInt64(reader.remaining) else {
      let code = length <= limit ? .ggString : code
      throw failure(
        code, excerpt(field), place, GGUFHeader.problem(length, limit: limit, left: reader.remaining))
    }
    let slice = try reader.take(Int(length), excerpt(field))
    guard let text = slice.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
      throw failure(code, excerpt(field), place, "the text is not UTF-8")
    }
    return text
  }

  // MARK: tensors (rules 37, 39 to 42)

  private mutating func readTensors(_ count: Int) throws(FormatError) {
    var names: Set<String> = []
    for _ in 0..<count {
      let place = reader.offset
      let name = try text("tensor name", limit: GGUFHeader.nameBytes, code: .ggName)
      if let problem = GGUFFile.problem(withName: name) {
        throw failure(.ggName, name.isEmpty ? nil : name, place, problem)
      }
      guard names.insert(name).inserted else {
        throw failure(.ggDuplicate, name, place, "found the tensor twice, expected it once")
      }
      let dimsPlace = reader.offset
      let dims = try dimensions(name)
      let typePlace = reader.offset
      let id = try reader.number(UInt32.self, name)
      guard let type = GGUFTensorType.named(id) else {
        let what = GGUFTensorType.removed[id].map { "\(id), \($0), which ggml has removed" } ?? "\(id)"
        throw failure(.ggTensorType, name, typePlace, "found the type \(what), expected one in use")
      }
      guard dims[0] % type.blockElements == 0 else {
        throw failure(
          .ggBlock, name, dimsPlace + 4,
          "found rows of \(dims[0]) elements, expected a multiple of \(type.blockElements), the block of \(type)"
        )
      }
      guard let bytes = GGUFHeader.byteCount(type, dims) else {
        throw failure(
          .ggDims, name, dimsPlace + 4, "the bytes of \(Shape(dims.reversed())) do not fit in 63 bits")
      }
      let offsetPlace = reader.offset
      let begin = try reader.number(UInt64.self, name)
      guard begin <= UInt64(Int.max) else {
        throw failure(.ggOffset, name, offsetPlace, "found the offset \(begin), expected at most 2^63 - 1")
      }
      entries.append(
        Entry(
          name: name, type: type, shape: dims.reversed(), byteCount: bytes, begin: Int(begin), place: place,
          offsetPlace: offsetPlace))
    }
  }

  /// The dimensions in the order of the file, the fastest first.
  private mutating func dimensions(_ name: String) throws(FormatError) -> [Int] {
    let place = reader.offset
    let rank = try reader.number(UInt32.self, name)
    guard (1...GGUFHeader.rankLimit).contains(rank) else {
      throw failure(.ggDims, name, place, "found \(rank) dimensions, expected 1 to 4")
    }
    var dims: [Int] = []
    for _ in 0..<rank {
      let place = reader.offset
      let dim = Int64(bitPattern: try reader.number(UInt64.self, name))
      guard dim > 0 else {
        throw failure(.ggDims, name, place, "found a dimension of \(dim), expected 1 at least")
      }
      dims.append(Int(dim))
    }
    return dims
  }

  // MARK: the data (rules 43 to 46)

  private mutating func checkLayout(fileCount: Int) throws(FormatError) {
    // The header is within the file, so that one more alignment cannot overflow.
    dataStart = ceilDivide(reader.offset, alignment) * alignment
    var end = 0
    var next = 0
    for entry in entries {
      guard entry.begin == next else { throw misplaced(entry, next) }
      let (last, over) = next.addingReportingOverflow(entry.byteCount)
      let (padded, overPadding) = last.addingReportingOverflow(alignment - 1)
      guard !over, !overPadding, padded <= Int.max - dataStart else {
        throw failure(.ggOffset, entry.name, entry.offsetPlace, "the tensor's end does not fit in 63 bits")
      }
      end = last
      next = padded / alignment * alignment
    }
    if entries.isEmpty {
      if fileCount > dataStart { throw trailing(fileCount, after: dataStart) }
      return
    }
    guard dataStart + end <= fileCount else {
      let cut = entries.first { dataStart + $0.begin + $0.byteCount > fileCount }
      throw failure(
        .ggTruncated, cut?.name, fileCount,
        "found \(fileCount) bytes, expected \(dataStart + end): \(dataStart + end - fileCount) bytes are missing"
      )
    }
    // The padding after the last tensor may be absent.
    if fileCount > dataStart + next { throw trailing(fileCount, after: dataStart + next) }
  }

  private func misplaced(_ entry: Entry, _ next: Int) -> FormatError {
    let found = "found the offset \(entry.begin), expected \(next)"
    if entry.begin % alignment != 0 {
      return failure(.ggOffset, entry.name, entry.offsetPlace, found + ", a multiple of \(alignment)")
    }
    if entry.begin < next {
      return failure(
        .ggOverlap, entry.name, entry.offsetPlace, found + ", where the tensor before it ends")
    }
    return failure(.ggOffset, entry.name, entry.offsetPlace, found + ": the tensors leave a hole")
  }

  private func trailing(_ fileCount: Int, after end: Int) -> FormatError {
    let left = fileCount - end
    let rest = (try? readerBytes(end, min(left, 4))) ?? []
    if rest == Array("GGUF".utf8) {
      return failure(
        .ggSplit, nil, end, "another GGUF file follows the last tensor, expected one file for each part",
        help: "open the parts as they were published; parts must not be joined by appending")
    }
    return failure(.ggOffset, nil, end, "\(left) bytes follow the last tensor, expected none")
  }

  private func readerBytes(_ start: Int, _ count: Int) throws(FormatError) -> [UInt8] {
    var copy = reader
    _ = try copy.take(start - copy.offset, "padding")
    return try copy.take(count, "rest").array
  }

  private func failure(
    _ code: ErrorCode, _ subject: String?, _ place: Int, _ problem: String, help: String? = nil
  ) -> FormatError {
    FormatError(code, file: file, subject: subject, offset: place, problem, help: help)
  }
}
