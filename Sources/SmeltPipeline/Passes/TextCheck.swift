// What a text file must be before its characters count: UTF-8 without NUL bytes. Other encodings and binaries are named, since
// a tokenizer would make something of any bytes.

import SmeltStorage

/// Holds text files against UTF-8, and collects what is worth saying of them.
struct TextCheck {
  private var marked: [String] = []
  private var withReturns: [String] = []

  /// What is worth saying of the files so far, one sentence each.
  var notes: [String] {
    var notes: [String] = []
    func add(_ files: [String], _ one: String, _ many: String) {
      guard let first = files.first else { return }
      notes.append(
        files.count == 1 ? "'\(first)' \(one)" : "'\(first)' and \(files.count - 1) more texts \(many)")
    }
    add(
      marked, "begins with a byte-order mark, which was taken off",
      "begin with a byte-order mark, which was taken off")
    add(
      withReturns, "has lines that end in CR LF; the carriage returns are part of the text",
      "have lines that end in CR LF; the carriage returns are part of the text")
    return notes
  }

  /// The bytes of a file without its byte-order mark.
  /// - Parameter hasLines: whether the file holds a record a line, so that the line is worth naming.
  /// - Throws: `TEXT_FORMAT` with the first byte that is not UTF-8, or the first NUL byte.
  mutating func content(_ bytes: Bytes, file: String, hasLines: Bool) throws(FormatError) -> Bytes {
    let head = bytes[0..<min(bytes.count, 64)].array
    let found: (place: Int, problem: String)? = bytes.withUnsafeBytes { buffer in
      if let mark = TextCheck.otherMark(head) {
        return (0, "begins with the byte-order mark of \(mark), expected UTF-8")
      }
      if let place = UTF8Check.firstInvalid(buffer) {
        return (place, "found the byte 0x\(hexadecimalByte(buffer[place])), which is not UTF-8 here")
      }
      return UTF8Check.firstNUL(buffer).map { ($0, "found the byte 0x00, which no text holds") }
    }
    if let found {
      throw FormatError(
        .text, file: file, subject: hasLines ? "line \(line(of: found.place, in: bytes))" : nil,
        offset: found.place, found.problem, help: TextCheck.advice(head, file))
    }
    guard head.starts(with: TextCheck.mark) else { return bytes }
    marked.append(file)
    return bytes[TextCheck.mark.count..<bytes.count]
  }

  /// Notes a text whose lines end in CR LF.
  mutating func lookForReturns(_ text: [UInt8], file: String) {
    guard withReturns.last != file else { return }
    var place = text.startIndex
    while let next = text[place...].firstIndex(of: 0x0D) {
      if next + 1 < text.count, text[next + 1] == 0x0A { return withReturns.append(file) }
      place = next + 1
    }
  }

  private func line(of place: Int, in bytes: Bytes) -> Int {
    bytes.withUnsafeBytes { 1 + $0[..<place].count { $0 == 0x0A } }
  }

  /// UTF-8's byte-order mark.
  static let mark: [UInt8] = [0xEF, 0xBB, 0xBF]

  private static func otherMark(_ head: [UInt8]) -> String? {
    let marks: [(String, [UInt8])] = [
      ("UTF-32", [0xFF, 0xFE, 0, 0]), ("UTF-32", [0, 0, 0xFE, 0xFF]), ("UTF-16", [0xFF, 0xFE]),
      ("UTF-16", [0xFE, 0xFF]),
    ]
    return marks.first { head.starts(with: $0.1) }?.0
  }

  private static func advice(_ head: [UInt8], _ file: String) -> String {
    let kinds: [(String, [UInt8])] = [
      ("a gzip file: unpack it first", [0x1F, 0x8B]),
      ("a zstd file: unpack it first", [0x28, 0xB5, 0x2F, 0xFD]),
      ("a zip archive: unpack it first", [0x50, 0x4B, 3, 4]), ("a PDF, not its text", Array("%PDF".utf8)),
    ]
    if let kind = kinds.first(where: { head.starts(with: $0.1) }) { return "the file is \(kind.0)" }
    var encoding = otherMark(head)
    let zeros = (0...1).map { phase in head.indices.count { $0 % 2 == phase && head[$0] == 0 } }
    if encoding == nil, let most = zeros.max(), most * 4 >= head.count, zeros.contains(0), most > 0 {
      encoding = zeros[0] == 0 ? "UTF-16LE" : "UTF-16BE"
    }
    if encoding == nil, head.contains(0) { return "give a text in UTF-8; a binary is not a text" }
    let likely = encoding ?? "ISO-8859-1"
    return "give a text in UTF-8; if this one is \(likely): iconv -f \(likely) -t UTF-8 \(file)"
  }
}

/// Two hexadecimal digits.
private func hexadecimalByte(_ byte: UInt8) -> String {
  (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
}
