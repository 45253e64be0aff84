// What a listing says of a file, and what it may say.

import SmeltStorage

/// A file of a listing.
struct RemoteEntry: Sendable {
  /// Its path below the folder.
  let path: String
  /// Its size in bytes.
  let count: Int
  /// SHA-256 of its content in lower-case hexadecimal, where the hub states it.
  var sha256: String?
  /// The name of its content in the hub's cache: that hash, or git's of a small file.
  var etag: String?
  /// Where its bytes come from.
  let source: any RangeSource
  /// Its beginning, where that came already.
  var head: [UInt8] = []

  /// Whether it is fetched whole and held against its hash before a byte of it is used: what lies beside weights, up to 64 MiB.
  var isChecked: Bool {
    sha256 != nil && count > 0 && count <= 64 << 20
      && ![".safetensors", ".gguf", ".ingot"].contains { path.lowercased().hasSuffix($0) }
  }
}

/// Paths as listings and users give them.
enum RemotePath {
  /// Why a path cannot be one of a file below a folder; nil where it can.
  static func problem(_ path: String) -> String? {
    guard (1...4096).contains(path.utf8.count) else {
      return "the path has \(path.utf8.count) bytes, expected 1 to 4,096"
    }
    for part in path.split(separator: "/", omittingEmptySubsequences: false) {
      if part.isEmpty || part == "." || part == ".." || part.utf8.count > 255 {
        return "found '\(excerpt(String(part)))' in a path, expected the name of a file or a folder"
      }
      if part.unicodeScalars.contains(where: {
        $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) || $0 == "\\"
      }) {
        return "found a control character or a backslash in a path"
      }
    }
    return nil
  }
}

extension RemotePath {
  /// The safetensors among the names of a folder that hold its model, as far as names tell: one file, its shards, or all. Others beside
  /// them are another copy of the weights, or something else.
  static func weights(_ names: [String]) -> [String] {
    let all = names.filter { $0.hasSuffix(".safetensors") }
    if all.contains("model.safetensors") { return ["model.safetensors"] }
    let shards = all.filter { $0.hasPrefix("model-") && $0.contains("-of-") }
    return shards.isEmpty ? all : shards
  }
}

/// Hashes as the hub writes them.
enum HubHash {
  /// Whether a text is so many hexadecimal digits in lower case.
  static func isOne(_ text: String, _ digits: Int) -> Bool {
    text.utf8.count == digits
      && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }
}
