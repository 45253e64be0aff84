// Which ends the names of a source have. Layouts ask for each weight whether a tensor of this or that end is there; mostly none is.

internal import SmeltStorage

/// The last parts of all names, behind their last dot: a few, however many names there are.
struct NameEndings: Sendable {
  private var parts: [[UInt8]] = []

  /// Of so many different parts nothing can be said.
  private static let limit = 200

  /// Those of some tensors.
  init(_ tensors: [TensorInfo]) {
    for tensor in tensors where parts.count < NameEndings.limit {
      var name = tensor.name
      // SAFETY: lent for the call.
      name.withUTF8 { utf8 in
        let start = utf8.lastIndex(of: UInt8(ascii: ".")).map { $0 + 1 } ?? 0
        let part = UnsafeBufferPointer(rebasing: utf8[start...])
        if !parts.contains(where: { $0.count == part.count && $0.elementsEqual(part) }) {
          parts.append(Array(part))
        }
      }
    }
  }

  /// Whether some part has an end, which has no dot in it.
  func mayHold(_ ending: String) -> Bool {
    guard parts.count < NameEndings.limit else { return true }
    let utf8 = ending.utf8
    return parts.contains { part in
      var place = part.count - utf8.count
      guard place >= 0 else { return false }
      for byte in utf8 {
        if part[place] != byte { return false }
        place += 1
      }
      return true
    }
  }
}
