// What takes a weight file's place when a download failed: git-LFS pointers, web pages, error messages, zeros. They are
// recognized before anything else, since "the header length is impossible" would help nobody.

internal import SmeltStorage

/// Recognizes files that take the place of weights. Formats/safetensors.md, rules 3 to 5.
enum PlaceholderFile {
  /// Refuses a git-LFS pointer, a page and a message in place of a safetensors file.
  /// - Throws: `SRC_LFS_POINTER`, `SRC_NOT_WEIGHTS`.
  static func refuseText(_ bytes: Bytes, file: String) throws(FormatError) {
    try refusePointerAndPage(bytes, file: file, expected: "weights")
    // The upper half of a real header length is zero, so that four text bytes there are proof enough.
    let head = bytes[0..<min(bytes.count, 64)].array
    guard head.count > 4, head.prefix(16).allSatisfy({ isText($0) }) else { return }
    let what = head.first { !isSpace($0) }.map { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "[") } ?? false
    throw FormatError(
      .notWeights, file: file, offset: 0,
      "found \(what ? "JSON text" : "text") that begins \(quoted(head)), expected weights")
  }

  /// Refuses a git-LFS pointer and a web page in place of any file of a checkpoint.
  /// - Throws: `SRC_LFS_POINTER`, `SRC_NOT_WEIGHTS`.
  static func refusePointerAndPage(_ bytes: Bytes, file: String, expected: String) throws(FormatError) {
    let head = bytes[0..<min(bytes.count, 512)].array
    if head.starts(with: "version https://git-lfs".utf8) || head.starts(with: "version https://hawser".utf8) {
      let size = String(decoding: head, as: UTF8.self).split(separator: "\n")
        .first { $0.hasPrefix("size ") }.flatMap { Int($0.dropFirst(5)) }
      throw FormatError(
        .lfsPointer, file: file, offset: 0,
        "found a git-LFS pointer of \(bytes.count) bytes"
          + (size.map { " that stands for \($0) bytes" } ?? "") + ", expected \(expected)")
    }
    let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]
    let start = head.starts(with: byteOrderMark) ? 3 : 0
    let text = head[start...].drop { isSpace($0) }
    let lower = String(decoding: text.prefix(16), as: UTF8.self).lowercased()
    for page in ["<!doctype", "<html", "<head", "<?xml", "<error"] where lower.hasPrefix(page) {
      throw FormatError(
        .notWeights, file: file, offset: 0,
        "found a page that begins \(quoted(Array(text.prefix(64)))), expected \(expected)")
    }
  }

  /// The name of another format of weights that begins with these bytes, or nil.
  static func otherFormat(_ bytes: Bytes) -> String? {
    let head = bytes[0..<min(bytes.count, 8)].array
    if head.starts(with: "GGUF".utf8) { return "a GGUF file" }
    if head.starts(with: [0x50, 0x4B, 0x03, 0x04]) { return "a zip archive, as PyTorch writes them" }
    if head.starts(with: [0x80, 0x02]) && head.count > 2 { return "a Python pickle" }
    return nil
  }

  /// Whether all bytes are zero.
  static func isZero(_ bytes: Bytes) -> Bool { bytes.withUnsafeBytes { $0.allSatisfy { $0 == 0 } } }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  private static func isText(_ byte: UInt8) -> Bool { isSpace(byte) || (0x21..<0x7F).contains(byte) }

  private static func quoted(_ bytes: [UInt8]) -> String {
    "'" + String(decoding: bytes.prefix(40), as: UTF8.self) + (bytes.count > 40 ? "…'" : "'")
  }
}
