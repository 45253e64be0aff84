// What a command reads as text: files, patterns of files, and records of JSON lines.

import SmeltStorage

/// Texts in the order they are read.
package struct TextSource: Sendable {
  /// The files, patterns resolved.
  package let files: [String]
  /// The member of a record that holds its text, in files named `.jsonl`.
  package let field: String

  /// The files of some paths and patterns, each pattern's in the order of their names.
  /// - Throws: `SRC_MISSING` when a pattern fits no file.
  package init(_ patterns: [String], field: String = "text") throws {
    files = try patterns.flatMap(SmeltStorage.files(matching:))
    self.field = field
  }

  /// Calls `body` with each text: a whole file, or one record of a `.jsonl` file after the other.
  /// - Returns: what is worth saying of the files.
  /// - Throws: `TEXT_FORMAT` for a file that is not UTF-8, and for a line that is not a JSON object with a string in the
  ///   field; what `body` throws.
  @discardableResult
  func forEach(_ body: (_ text: [UInt8], _ file: String) throws -> Void) throws -> [String] {
    var check = TextCheck()
    for file in files {
      let whole = try MappedFile(path: file).bytes
      let hasLines = file.lowercased().hasSuffix(".jsonl")
      let bytes = try check.content(whole, file: file, hasLines: hasLines)
      guard hasLines else {
        let text = bytes.array
        check.lookForReturns(text, file: file)
        try body(text, file)
        continue
      }
      let array = bytes.array
      let skipped = whole.count - bytes.count
      var start = 0
      var line = 0
      while start < array.count {
        line += 1
        let end = array[start...].firstIndex(of: 0x0A) ?? array.count
        defer { start = end + 1 }
        let record = array[start..<end]
        guard !record.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) else { continue }
        let text = Array(
          try text(of: Bytes(Array(record)), line: line, offset: skipped + start, file).utf8)
        check.lookForReturns(text, file: file)
        try body(text, file)
      }
    }
    return check.notes
  }

  private func text(of record: Bytes, line: Int, offset: Int, _ file: String) throws(FormatError) -> String {
    func refuse(_ place: Int, _ problem: String) -> FormatError {
      FormatError(
        .text, file: file, subject: "line \(line)", offset: offset + place, problem,
        help: "each line is a JSON object with the text in \"\(excerpt(field))\"; --text-field names another")
    }
    let json: JSON
    do {
      json = try JSON.scan(record)
    } catch {
      throw refuse(error.offset, error.problem)
    }
    guard json.object != nil else { throw refuse(0, "found \(json.kind), expected an object") }
    guard let text = json[field]?.string else {
      throw refuse(0, "found \(json[field]?.kind ?? "nothing") in '\(excerpt(field))', expected a string")
    }
    return text
  }

  /// SHA-256 of all files end to end, in lower-case hexadecimal.
  static func hash(_ files: [String]) throws -> String {
    var hash = SHA256()
    for file in files { try MappedFile(path: file).bytes.withUnsafeBytes { hash.update($0) } }
    return hash.hex()
  }

  /// The same of the files of several texts, of all of them and of each text: the files are read once.
  static func hashes(_ texts: [[String]]) throws -> (all: String, each: [String]) {
    var all = SHA256()
    let each = try texts.map { files in
      var own = SHA256()
      for file in files {
        try MappedFile(path: file).bytes.withUnsafeBytes { bytes in
          // Both over a piece while it lies in the processor's cache.
          for start in stride(from: 0, to: bytes.count, by: TextSource.hashedBytes) {
            let piece = UnsafeRawBufferPointer(
              rebasing: bytes[start..<min(bytes.count, start + TextSource.hashedBytes)])
            all.update(piece)
            own.update(piece)
          }
        }
      }
      return own.hex()
    }
    return (all.hex(), each)
  }

  private static let hashedBytes = 256 << 10
}

/// Which windows of a text run.
package struct WindowDraw: Sendable {
  /// Windows to draw; nil for the first ones, as many as `limit` allows.
  package var samples: Int?
  /// Decides which windows are drawn.
  package var seed: UInt64
  /// Tokens that may run: of the first windows, or with `samples` of the drawn windows and of those that calibration may
  /// add to them.
  package var limit: Int?

  /// A draw; everything by default.
  package init(samples: Int? = nil, seed: UInt64 = 0, limit: Int? = nil) {
    self.samples = samples
    self.seed = seed
    self.limit = limit
  }

  /// How many times the drawn tokens calibration may look at where no limit is given.
  static let usualPool = 4

  /// The sequences that run, and those that calibration may add; both in the order of the text.
  func split(_ sequences: [[Int]]) -> (run: [[Int]], pool: [[Int]]) {
    let places = places(sequences)
    return (places.run.map { sequences[$0] }, places.pool.map { sequences[$0] })
  }

  /// Where these stand among all sequences.
  func places(_ sequences: [[Int]]) -> (run: [Int], pool: [Int]) {
    guard let samples else { return (Array(sequences.indices), []) }
    // Fisher and Yates's shuffle: the same on every machine.
    var order = Array(sequences.indices)
    var random = SplitMix64(seed: seed)
    for place in stride(from: order.count - 1, to: 0, by: -1) {
      order.swapAt(place, random.below(place + 1))
    }
    var drawn = Array(order.prefix(samples))
    func tokens(_ places: [Int]) -> Int { places.reduce(0) { $0 + sequences[$1].count } }
    while let limit, drawn.count > 1, tokens(drawn) > limit { drawn.removeLast() }
    var room = (limit ?? WindowDraw.usualPool * tokens(drawn)) - tokens(drawn)
    let pool = order.dropFirst(drawn.count).prefix { place in
      room -= sequences[place].count
      return room >= 0
    }
    return (drawn.sorted(), pool.sorted())
  }
}
