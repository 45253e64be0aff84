// Runs of windows, the parts of a calibration or a verification, and the names of their files. Formats/cluster.md, sections 5 and 6.

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
}
