// Runs of windows, the parts of a calibration or a verification, and the names of their files. Formats/cluster.md, sections 5 and 6.

import SmeltStorage

/// Parts that are runs of windows.
enum WindowParts {
  /// The windows of a part: part p of P has those from ⌊p · W ÷ P⌋ on, up to the next part's.
  static func windows(_ part: Int, of count: Int, among windows: Int) -> Range<Int> {
    part * windows / count..<(part + 1) * windows / count
  }

  /// The name of a part's file.
  static func name(_ part: Int, of count: Int) -> String {
    func digits(_ number: Int) -> String {
      String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)"
    }
    return "part-\(digits(part + 1))-of-\(digits(count)).safetensors"
  }

  /// Refuses a folder with parts of another number, half-made ones too, or with units of a conversion: they could never be joined with
  /// those that are to be made.
  /// - Throws: `UNIT_MISMATCH`.
  static func requireCount(_ count: Int, in folder: String) throws {
    for file in try namesInFolder(folder) {
      guard let number = number(ofPartsIn: file), number != count else { continue }
      throw FormatError(
        .unitMismatch, file: joinPath(folder, file), subject: "parts",
        "is of \(number) parts, these are \(count)",
        help: "give --parts \(number) to go on with them, or move the folder away")
    }
    try UnitManifest.requireNames(Set((0..<count).map { name($0, of: count) }), in: folder)
  }

  /// How many parts there are where a file, or what belongs to it, has the name of one.
  private static func number(ofPartsIn file: String) -> Int? {
    let words = file.prefix { $0 != "." }.split(separator: "-", omittingEmptySubsequences: false)
    guard words.count == 4, words[0] == "part", words[2] == "of", let part = Int(words[1]),
      let count = Int(words[3]), part >= 1, file.hasPrefix(name(part - 1, of: count))
    else { return nil }
    return count
  }
}
