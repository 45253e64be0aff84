// A safetensors header, from bytes to a checked list of tensors. Formats/safetensors.md numbers the rules; nothing
// behind this door looks at a shape, an offset or a name again.

internal import SmeltStorage
internal import SmeltTensors

/// The checked header of one file.
struct SafetensorsHeader {
  /// The longest header accepted, the limit of the reference reader.
  static let byteLimit = 100_000_000
  /// The most tensors accepted: seven times the largest checkpoint published so far.
  static let tensorLimit = 1_000_000
  /// The most values in one member; only `__metadata__` could come near.
  static let valueLimit = 1_000_000
  /// The largest size or offset: what every JSON reader can hold exactly.
  static let numberLimit = 1 << 53
  /// The most dimensions.
  static let rankLimit = 8
  /// The deepest nesting of the header.
  static let depthLimit = 8

  /// `__metadata__` in file order.
  private(set) var metadata: [(String, String)] = []
  /// The tensors, sorted by their bytes.
  private(set) var rows: [TensorTable.Row] = []
  /// The place of each tensor in `rows`.
  private(set) var table = NameTable()
  /// The byte of the file where the data starts.
  let dataStart: Int
  private let file: String

  /// Reads and checks the header of the whole file `bytes`.
  init(_ bytes: Bytes, file: String, tensorLimit: Int) throws {
    self.file = file
    let length = try SafetensorsHeader.length(bytes, file: file)
    dataStart = 8 + length
    let header = try bytes[8..<dataStart].fetched()
    if PlaceholderFile.isZero(header) {
      throw FormatError(
        .stZeroPage, file: file, offset: 8, "found \(length) zero bytes, expected a header")
    }
    try readMembers(header, tensorLimit: tensorLimit)
    try checkLayout(fileCount: bytes.count)
  }

  /// The header's length (rules 1 to 5).
  private static func length(_ bytes: Bytes, file: String) throws -> Int {
    let head = try bytes[0..<min(bytes.count, 512)].fetched()
    defer { withExtendedLifetime(head) {} }
    try PlaceholderFile.refuseText(bytes, file: file)
    guard bytes.count >= 8 else {
      throw FormatError(
        .stTruncated, file: file, offset: bytes.count,
        "found \(bytes.count) bytes, expected the 8 bytes of the header length at least")
    }
    let length = try bytes[0..<8].fetched().withUnsafeBytes {
      UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self))
    }
    if length == 0 && bytes.count > 8 && PlaceholderFile.isZero(bytes[0..<min(bytes.count, 4096)]) {
      throw FormatError(.stZeroPage, file: file, offset: 0, "found zero bytes only, expected a header length")
    }
    let left = bytes.count - 8
    let problem: String
    if length == 0 {
      problem = "found a header length of 0, expected 2 at least"
    } else if length > byteLimit {
      problem =
        PlaceholderFile.otherFormat(bytes).map { "found \($0), expected a header length" }
        ?? "found a header length of \(length), expected at most \(byteLimit)"
    } else if length > left {
      problem =
        "found a header length of \(length), but \(left) bytes are left: \(length - UInt64(left)) are missing"
    } else {
      return Int(length)
    }
    throw FormatError(.stHeaderSize, file: file, offset: 0, problem)
  }

  // MARK: the JSON (rules 6 to 8)

  private mutating func readMembers(_ header: Bytes, tensorLimit: Int) throws {
    var last = header.count
    // SAFETY: `last` stays between 1 and the count while a byte is read.
    header.withUnsafeBytes { while last > 0, $0[last - 1] == 0x20 { last -= 1 } }
    let text = header[0..<last]
    let ends = text.withUnsafeBytes { (first: $0.first, last: $0.last) }
    guard ends.first == UInt8(ascii: "{") else {
      throw failure(.stHeaderJSON, nil, 0, "the header does not begin with '{'")
    }
    // A tensor takes 40 bytes of header at the very least, and 100 as a rule.
    table.reserve(text.count / 100)
    rows.reserveCapacity(text.count / 120)
    var form = HeaderEntryForm()
    do {
      let limits = JSONLimits(
        depth: SafetensorsHeader.depthLimit, values: SafetensorsHeader.valueLimit)
      var hasNotes = false
      func claim(_ key: String, _ hash: UInt64, _ offset: Int) throws(FormatError) {
        let isNew = key == "__metadata__" ? !hasNotes : table.find(hash) { rows[$0].name == key } == nil
        guard isNew else {
          throw failure(
            .stDuplicate, excerpt(key, limit: 1000), offset, "the key appears twice, expected it once")
        }
        guard key != "__metadata__" else { return hasNotes = true }
        guard rows.count < tensorLimit else {
          throw failure(
            .stHeaderLimit, excerpt(key, limit: 1000), offset, "found more than \(tensorLimit) tensors")
        }
        table.insert(hash, rows.count)
      }
      try JSON.scanMembers(text, limits: limits) { key, offset, bytes, start in
        guard form.read(bytes, start), SafetensorsFile.problem(withName: key) == nil,
          key != "__metadata__"
        else { return nil }
        let hash = NameTable.hash(key)
        try claim(key, hash, offset)
        rows.append(
          TensorTable.Row(
            name: key, dtype: form.dtype, shape: form.shape, begin: form.begin, end: form.end,
            place: 8 + offset, offsetsPlace: 8 + form.offsetsPlace, hash: hash))
        return form.place
      } member: { key, offset, value in
        let hash = NameTable.hash(key)
        try claim(key, hash, offset)
        if key == "__metadata__" {
          metadata = try notes(value)
        } else {
          rows.append(try entry(key, hash, offset, value))
        }
      }
    } catch let error as JSONError {
      let code: ErrorCode =
        switch error.kind {
        case .syntax: .stHeaderJSON
        case .duplicateKey: .stDuplicate
        case .limit: .stHeaderLimit
        }
      throw failure(code, nil, error.offset, error.problem)
    }
    guard ends.last == UInt8(ascii: "}") else {
      throw failure(.stHeaderJSON, nil, last - 1, "the header's padding is not all spaces")
    }
  }

  /// `__metadata__`: strings only (rule 19).
  private func notes(_ value: JSON) throws(FormatError) -> [(String, String)] {
    guard let object = value.object else {
      throw failure(
        .stMetadata, "__metadata__", value.offset, "found \(value.kind), expected an object of strings")
    }
    var notes: [(String, String)] = []
    for (key, note) in zip(object.keys, object.values) {
      guard let text = note.string else {
        throw failure(
          .stMetadata, "__metadata__.\(excerpt(key))", note.offset, "found \(note.kind), expected a string")
      }
      notes.append((key, text))
    }
    return notes
  }

  // MARK: one tensor (rules 9 to 15, 20)

  private func entry(_ name: String, _ hash: UInt64, _ place: Int, _ value: JSON) throws(FormatError)
    -> TensorTable.Row
  {
    if let problem = SafetensorsFile.problem(withName: name) {
      throw failure(.stName, excerpt(name), place, problem)
    }
    guard let object = value.object else {
      throw failure(.stHeaderJSON, name, value.offset, "found \(value.kind), expected an object")
    }
    for (key, member) in zip(object.keys, object.values)
    where key != "dtype" && key != "shape" && key != "data_offsets" {
      throw failure(
        .stHeaderJSON, name, member.offset,
        "found the field '\(excerpt(key))', expected dtype, shape and data_offsets alone")
    }
    let dtype = try dtype(field("dtype", of: object, name, value.offset), name)
    let shapeValue = try field("shape", of: object, name, value.offset)
    let shape = try numbers(shapeValue, name, "dimension")
    guard shape.count <= SafetensorsHeader.rankLimit else {
      throw failure(
        .stRank, name, shapeValue.offset,
        "found \(shape.count) dimensions, expected at most \(SafetensorsHeader.rankLimit)")
    }
    let offsetsValue = try field("data_offsets", of: object, name, value.offset)
    let offsets = try numbers(offsetsValue, name, "offset")
    guard offsets.count == 2 else {
      throw failure(
        .stHeaderJSON, name, offsetsValue.offset, "found \(offsets.count) offsets, expected begin and end")
    }
    let needed = try byteCount(dtype, shape, name, shapeValue.offset)
    guard offsets[0] <= offsets[1] else {
      throw failure(
        .stOffsets, name, offsetsValue.offset, "found the begin \(offsets[0]) after the end \(offsets[1])")
    }
    guard offsets[1] - offsets[0] == needed else {
      throw failure(
        .stSizeMismatch, name, offsetsValue.offset,
        "found \(offsets[1] - offsets[0]) bytes, expected \(needed) for \(dtype) \(Shape(shape))")
    }
    return TensorTable.Row(
      name: name, dtype: dtype, shape: Shape(shape), begin: offsets[0], end: offsets[1], place: 8 + place,
      offsetsPlace: 8 + offsetsValue.offset, hash: hash)
  }

  private func field(_ key: String, of object: JSONObject, _ name: String, _ offset: Int) throws(FormatError)
    -> JSON
  {
    guard let value = object[key] else {
      throw failure(.stHeaderJSON, name, offset, "the field '\(key)' is missing")
    }
    return value
  }

  private func dtype(_ value: JSON, _ name: String) throws(FormatError) -> DType {
    guard let text = value.string, let dtype = DType(rawValue: text) else {
      let found = value.string.map { "the dtype '\(excerpt($0))'" } ?? value.kind
      throw failure(
        .stDtype, name, value.offset,
        "found \(found), expected one of \(DType.allCases.map(\.rawValue).joined(separator: " "))")
    }
    return dtype
  }

  /// A list of sizes: whole, not negative, at most 2^53 (rule 10).
  private func numbers(_ value: JSON, _ name: String, _ what: String) throws(FormatError) -> [Int] {
    guard let list = value.array else {
      throw failure(.stHeaderJSON, name, value.offset, "found \(value.kind), expected a list of \(what)s")
    }
    var numbers: [Int] = []
    numbers.reserveCapacity(min(list.count, SafetensorsHeader.rankLimit))
    for element in list {
      switch element.content {
      case .integer(let number) where number >= 0 && number <= SafetensorsHeader.numberLimit:
        numbers.append(number)
      case .integer(let number):
        throw failure(.stNumber, name, element.offset, "found the \(what) \(number), expected 0 to 2^53")
      case .number(let number):
        throw failure(
          .stNumber, name, element.offset, "found the \(what) \(number), expected a whole number of 0 to 2^53"
        )
      default:
        throw failure(.stHeaderJSON, name, element.offset, "found \(element.kind), expected a \(what)")
      }
    }
    return numbers
  }

  /// The bytes a shape needs (rules 12 and 13).
  private func byteCount(_ dtype: DType, _ shape: [Int], _ name: String, _ offset: Int) throws(FormatError)
    -> Int
  {
    // A zero hides no overflow: whoever multiplies some of the dimensions later must be safe, too.
    let most = Shape.checkedCount(shape.map { max($0, 1) })
    guard let most, !most.multipliedReportingOverflow(by: dtype.bits).overflow else {
      throw failure(
        .stOverflow, name, offset, "the elements of \(dtype) \(Shape(shape)) cannot be counted in 63 bits")
    }
    let count = shape.contains(0) ? 0 : most
    guard count * dtype.bits % 8 == 0 else {
      throw failure(
        .stSubbyte, name, offset,
        "\(dtype) \(Shape(shape)) has \(count * dtype.bits) bits, expected a multiple of 8")
    }
    return count * dtype.bits / 8
  }

  // MARK: the layout (rules 14, 16 to 18, 21)

  /// Sorts the tensors by their bytes and checks that they cover the data without hole, overlap or remainder.
  private mutating func checkLayout(fileCount: Int) throws(FormatError) {
    let dataCount = fileCount - dataStart
    sortEntries()
    var position = 0
    for number in rows.indices {
      if rows[number].begin != position {
        let entry = rows[number]
        // Beyond the file *and* out of order is a wrong offset; in order, the file was cut (below).
        if entry.end > dataCount {
          throw FormatError(
            .stOffsets, file: file, subject: entry.name, offset: Int(entry.offsetsPlace),
            "found the end \(entry.end), expected at most \(dataCount), the size of the data")
        }
        let what = entry.begin > position ? "a hole" : "an overlap"
        throw FormatError(
          .stLayout, file: file, subject: entry.name, offset: Int(entry.offsetsPlace),
          "found \(what): it begins at \(entry.begin), expected \(position), where the one before ends")
      }
      position = rows[number].end
    }
    if position > dataCount {
      let cut = rows.first { $0.end > dataCount }
      throw FormatError(
        .stTruncated, file: file, subject: cut?.name, offset: fileCount,
        "found \(fileCount) bytes, expected \(dataStart + position): \(position - dataCount) bytes are missing"
      )
    }
    if position < dataCount {
      throw FormatError(
        .stTrailing, file: file, offset: dataStart + position,
        "found \(dataCount - position) bytes after the last tensor, expected the end of the file")
    }
  }

  /// Puts the tensors in the order of their bytes, an empty one before the one that begins at the same place.
  private mutating func sortEntries() {
    // As nearly every writer leaves them; hashing every name again would cost a third of the whole reading.
    let isSorted = rows.indices.dropFirst().allSatisfy {
      (rows[$0 - 1].begin, rows[$0 - 1].end) <= (rows[$0].begin, rows[$0].end)
    }
    if isSorted { return }
    let order = rows.indices.sorted {
      (rows[$0].begin, rows[$0].end, $0) < (rows[$1].begin, rows[$1].end, $1)
    }
    var places = order
    for (place, index) in order.enumerated() { places[index] = place }
    rows = order.map { rows[$0] }
    table.renumber { places[$0] }
  }

  /// An error at byte `offset` of the header, which starts at byte 8 of the file.
  private func failure(_ code: ErrorCode, _ subject: String?, _ offset: Int, _ problem: String) -> FormatError
  {
    FormatError(code, file: file, subject: subject, offset: 8 + offset, problem)
  }
}
