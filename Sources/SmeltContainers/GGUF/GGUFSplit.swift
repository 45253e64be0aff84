// The parts of a GGUF model that is spread over files: which they are, and that they belong together.
// Formats/gguf.md, rule 46.

internal import SmeltStorage

/// One file, mapped, with its checked header.
struct GGUFPart {
  let path: String
  let mapped: MappedFile
  let header: GGUFHeader

  /// Opens the file that `path` stands for once links are resolved; errors name `path`.
  init(path: String, resolved: String) throws {
    do {
      mapped = try MappedFile(path: resolved)
    } catch var error as FormatError {
      error.file = path
      throw error
    }
    self.path = path
    header = try GGUFHeader(mapped.bytes, file: path)
  }
}

/// What a part says of the whole.
struct GGUFSplit {
  /// The most parts.
  static let countLimit = 65535
  /// The keys that say so, in the order in which llama.cpp's tools leave them.
  static let keys = ["split.no", "split.tensors.count", "split.count"]

  /// The number of parts; 0 and 1 mean one file.
  let count: Int
  /// This part, counted from 0.
  let number: Int
  /// The tensors of all parts, where the file says so.
  let tensors: Int?

  /// Reads the keys `split.…`.
  init(_ part: GGUFPart) throws(FormatError) {
    func number(_ key: String, _ limit: Int) throws(FormatError) -> Int? {
      guard let index = part.header.metadata.firstIndex(where: { $0.key == key }) else { return nil }
      if let value = part.header.metadata[index].value.integer, (0...limit).contains(value) { return value }
      throw FormatError(
        .ggSplit, file: part.path, subject: key, offset: part.header.keyPlaces[index],
        "found a value that is not a whole number of 0 to \(limit)")
    }
    count = try number("split.count", GGUFSplit.countLimit) ?? 0
    self.number = try number("split.no", GGUFSplit.countLimit) ?? 0
    tensors = try number("split.tensors.count", Int(Int32.max))
    guard self.number < max(count, 1) else {
      throw GGUFSplit.failure(
        part, "split.no", "found part \(self.number), counted from 0, expected less than \(max(count, 1))")
    }
  }

  /// An error at a key of the part, or at its start when it has no such key.
  static func failure(_ part: GGUFPart, _ key: String, _ problem: String, help: String? = nil) -> FormatError
  {
    let index = part.header.metadata.firstIndex { $0.key == key }
    return FormatError(
      .ggSplit, file: part.path, subject: key, offset: index.map { part.header.keyPlaces[$0] } ?? 0, problem,
      help: help)
  }

  /// All parts of the model whose first part is `first`, in order.
  static func parts(_ first: GGUFPart) throws -> [GGUFPart] {
    let split = try GGUFSplit(first)
    var parts = [first]
    if split.count > 1 {
      guard split.number == 0 else {
        throw failure(
          first, "split.no", "found part \(split.number + 1) of \(split.count), expected the first",
          help: "open the part whose name ends in \(ending(0, of: split.count))")
      }
      parts += try others(first, split.count)
    }
    let sum = parts.reduce(0) { $0 + $1.header.entries.count }
    for part in parts {
      if let stated = try GGUFSplit(part).tensors, stated != sum {
        throw failure(
          part, "split.tensors.count", "found \(stated), expected \(sum), the tensors of all parts")
      }
    }
    return parts
  }

  private static func others(_ first: GGUFPart, _ count: Int) throws -> [GGUFPart] {
    let ending = GGUFSplit.ending(0, of: count)
    let name = fileName(first.path)
    guard name.hasSuffix(ending) else {
      throw failure(
        first, "split.count",
        "found \(count) parts and the file name '\(name)', expected one that ends in '\(ending)'",
        help: "give the parts back the names they were published under")
    }
    let prefix = name.dropLast(ending.utf8.count)
    let folder = try ShardFolder(parentFolder(first.path))
    let names = (1..<count).map { String(prefix) + GGUFSplit.ending($0, of: count) }
    let here = Set(folder.names)
    let missing = names.filter { !here.contains($0) }
    guard missing.isEmpty else {
      throw failure(
        first, "split.count",
        "\(missing.count) of \(count) parts are missing: " + missing.prefix(10).joined(separator: ", ")
          + (missing.count > 10 ? " and \(missing.count - 10) more" : ""),
        help: "download the missing parts")
    }
    return try names.enumerated().map { index, name in
      let part = try GGUFPart(path: joinPath(parentFolder(first.path), name), resolved: folder.resolve(name))
      let split = try GGUFSplit(part)
      if split.count != count {
        throw failure(part, "split.count", "found \(split.count), expected \(count) as the first part says")
      }
      if split.number != index + 1 {
        throw failure(part, "split.no", "found \(split.number), expected \(index + 1) as the file name says")
      }
      return part
    }
  }

  /// How the name of a part ends; `number` counts from 0, in the name from 1.
  static func ending(_ number: Int, of count: Int) -> String {
    partEnding(number + 1, of: count) + ".gguf"
  }
}
