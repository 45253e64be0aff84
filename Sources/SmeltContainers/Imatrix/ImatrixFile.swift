// Importance matrices of llama.cpp: for each weight, the sums of squares of what its input channels saw. Two forms:
// GGUF, and the older `.dat`. Formats/statistics.md, section 5.

package import SmeltStorage
internal import SmeltTensors

/// An importance matrix, mapped and checked; values are lent as they stand, and only their number is checked here.
package struct ImatrixFile: Sendable {
  /// What the file says of one tensor.
  package struct Entry: Sendable {
    /// The tensor's name; a stack of experts has one entry.
    package let name: String
    /// F32, little-endian, one after the other: matrix after matrix, each [input channels].
    package let sums: Bytes
    /// Where the sums start in their file, for messages.
    package let offset: Int
    /// What the sums are divided by to give mean squares: a number for each of several runs of equal length, or one
    /// for all. In a GGUF file these are tokens, in the older form calls.
    package let counts: [Int]

    /// The number of sums; at least 1, a multiple of the number of counts.
    package var valueCount: Int { sums.count / 4 }
  }

  /// The path as the caller knows it.
  package let path: String
  /// The entries in file order, each name once.
  package let entries: [Entry]
  /// What the texts were called.
  package let datasets: [String]
  /// Chunks of text that ran; nil where the file does not say.
  package let chunkCount: Int?
  /// Tokens of a chunk; nil where the file does not say.
  package let chunkSize: Int?
  /// Whether it is of the older form: one count, of calls, for all matrices, and sums that equal it where nothing came.
  package let isLegacy: Bool

  /// Whether a file looks like an importance matrix of either form. Judges by its first bytes.
  package static func isImatrix(_ path: String) -> Bool {
    guard let bytes = try? MappedFile(path: path).bytes, bytes.count >= 12 else { return false }
    if bytes[0..<4].array == Array("GGUF".utf8) { return true }
    // SAFETY: 12 bytes at least, and the text's length is checked before it is read
    return bytes.withUnsafeBytes { all in
      let count = Int32(littleEndian: all.loadUnaligned(as: Int32.self))
      let length = Int32(littleEndian: all.loadUnaligned(fromByteOffset: 4, as: Int32.self))
      // A safetensors file, whose header has less than 2^32 bytes, has a length of 0 here.
      guard count > 0, (1...1000).contains(length), all.count >= 8 + Int(length) else { return false }
      return all[8..<8 + Int(length)].allSatisfy { (0x20..<0x7F).contains($0) }
    }
  }

  /// Opens and checks a file of either form.
  /// - Throws: `STAT_FORMAT`; what `GGUFFile` throws; `RequestError` io when the system refuses.
  package init(path: String) throws {
    let bytes = try MappedFile(path: path).bytes
    if bytes.count >= 4, bytes[0..<4].array == Array("GGUF".utf8) {
      try self.init(try GGUFFile(path: path))
    } else {
      try self.init(legacy: bytes, path: path)
    }
  }

  // MARK: GGUF

  private init(_ file: GGUFFile) throws(FormatError) {
    func refusal(_ subject: String, _ offset: Int?, _ problem: String) -> FormatError {
      FormatError(.statistics, file: file.path, subject: subject, offset: offset, problem)
    }
    func number(_ key: String) throws(FormatError) -> Int {
      guard let value = file.value(key)?.integer, value >= 0 else {
        throw refusal(key, file.place(ofKey: key), "is missing or no whole number of at least 0")
      }
      return value
    }
    guard file.value("general.type")?.string == "imatrix" else {
      throw refusal(
        "general.type", file.place(ofKey: "general.type"),
        "is \(file.value("general.type")?.string.map { "'\(excerpt($0))'" } ?? "missing"), expected 'imatrix'"
      )
    }
    guard let datasets = file.value("imatrix.datasets")?.array?.strings else {
      throw refusal(
        "imatrix.datasets", file.place(ofKey: "imatrix.datasets"), "is missing or no list of texts")
    }
    self.datasets = datasets
    chunkCount = try number("imatrix.chunk_count")
    chunkSize = try number("imatrix.chunk_size")
    path = file.path
    isLegacy = false
    var entries: [Entry] = []
    for tensor in file.tensors {
      let isCounts = tensor.name.hasSuffix(".counts")
      guard isCounts || tensor.name.hasSuffix(".in_sum2") else {
        throw refusal(tensor.name, tensor.offset, "is not a name that an importance matrix has")
      }
      guard tensor.type.name == "F32" else {
        throw refusal(tensor.name, tensor.offset, "is \(tensor.type), expected F32")
      }
      let name = String(tensor.name.dropLast(isCounts ? ".counts".count : ".in_sum2".count))
      let sibling = name + (isCounts ? ".in_sum2" : ".counts")
      guard let counts = file.tensor(sibling) else {
        throw refusal(tensor.name, tensor.offset, "has no '\(sibling)' beside it")
      }
      if isCounts { continue }
      guard tensor.shape.count % counts.shape.count == 0 else {
        throw refusal(
          tensor.name, tensor.offset, "has \(tensor.shape.count) values for \(counts.shape.count) counts")
      }
      entries.append(
        Entry(
          name: name, sums: tensor.bytes, offset: tensor.offset,
          counts: try ImatrixFile.counts(counts, file: file.path)))
    }
    guard !entries.isEmpty else { throw refusal("n_tensors", 8, "found no entries, expected one at least") }
    self.entries = entries
  }

  /// Counts are whole numbers in F32.
  private static func counts(_ tensor: GGUFTensor, file: String) throws(FormatError) -> [Int] {
    var counts: [Int] = []
    counts.reserveCapacity(tensor.shape.count)
    for index in 0..<tensor.shape.count {
      // SAFETY: the header gave an F32 tensor four bytes an element
      let value = tensor.bytes.withUnsafeBytes {
        Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
      }
      guard value >= 0, value <= 0x1p62 else {
        throw FormatError(
          .statistics, file: file, subject: tensor.name, offset: tensor.offset + index * 4,
          "count \(index) is \(value), expected a number of at least 0")
      }
      counts.append(Int(value.rounded()))
    }
    return counts
  }

  // MARK: the older form

  private init(legacy bytes: Bytes, path: String) throws(FormatError) {
    var reader = ByteReader(bytes, file: path, code: .statistics)
    let count = Int(try reader.number(Int32.self, "number of entries"))
    // An entry takes 17 bytes at the very least.
    guard count > 0, count <= reader.remaining / 17 else {
      throw FormatError(
        .statistics, file: path, offset: 0, "found \(count) entries in \(bytes.count) bytes",
        help: "give statistics of `smelt calibrate`, or an importance matrix of llama.cpp")
    }
    var entries: [Entry] = []
    var names: Set<String> = []
    for index in 0..<count {
      let entry = try ImatrixFile.entry(&reader, index, file: path)
      guard names.insert(entry.name).inserted else {
        throw FormatError(
          .statistics, file: path, subject: entry.name, offset: reader.offset, "appears twice")
      }
      entries.append(entry)
    }
    self.path = path
    self.entries = entries
    isLegacy = true
    chunkSize = nil
    // What follows came later: the chunks, then the text's name.
    chunkCount = reader.remaining > 0 ? try ImatrixFile.number(&reader, "number of chunks", least: 0) : nil
    var datasets: [String] = []
    if reader.remaining > 0 {
      let length = try ImatrixFile.number(&reader, "length of the text's name", least: 0)
      if length > 0 { datasets = [try ImatrixFile.text(&reader, length)] }
    }
    self.datasets = datasets
    guard reader.remaining == 0 else {
      throw reader.error("end", "\(reader.remaining) bytes follow the last field, expected none")
    }
  }

  private static func entry(_ reader: inout ByteReader, _ index: Int, file: String) throws(FormatError)
    -> Entry
  {
    let place = reader.offset
    let name = try text(&reader, number(&reader, "length of name \(index)", least: 1))
    if let problem = SafetensorsFile.problem(withName: name) {
      throw FormatError(.statistics, file: file, subject: excerpt(name), offset: place, problem)
    }
    let calls = try number(&reader, name, least: 1)
    let values = try number(&reader, name, least: 1)
    let start = reader.offset
    return Entry(
      name: name, sums: try reader.take(values * 4, name), offset: start, counts: [calls])
  }

  private static func number(_ reader: inout ByteReader, _ field: String, least: Int) throws(FormatError)
    -> Int
  {
    var ahead = reader
    let value = Int(try ahead.number(Int32.self, field))
    guard value >= least else { throw reader.error(field, "found \(value), expected at least \(least)") }
    reader = ahead
    return value
  }

  private static func text(_ reader: inout ByteReader, _ count: Int) throws(FormatError) -> String {
    var ahead = reader
    let slice = try ahead.take(count, "text")
    guard let text = slice.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
      throw reader.error("text", "is not UTF-8")
    }
    reader = ahead
    return text
  }
}
