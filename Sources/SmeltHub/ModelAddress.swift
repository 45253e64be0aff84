// The names by which models elsewhere are known. Formats/hub.md, section 1.

import SmeltStorage

/// A repository of the hub at a revision.
struct RepositoryName: Sendable, Hashable {
  /// `org/name`.
  let id: String
  /// A branch, a tag or a commit.
  let revision: String

  /// Whether a text is `org/name` as the hub has it.
  static func isIdentifier(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return parts.count == 2
      && parts.allSatisfy { part in
        (1...96).contains(part.utf8.count) && part.utf8.allSatisfy { isWord($0) } && !part.hasPrefix(".")
          && !part.hasPrefix("-") && !part.contains("..") && !part.contains("--") && !part.hasSuffix(".git")
      }
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
    default: false
    }
  }
}

/// A model that is not a path on this machine.
enum ModelAddress: Sendable, Hashable {
  /// A folder (`""`: all of it) or a file of a repository.
  case hub(RepositoryName, path: String)
  /// A folder, whose address ends with a slash, or a file at an address.
  case web(WebAddress)

  /// Whether a text is meant as an address rather than as a path.
  static func isAddress(_ text: String) -> Bool {
    let lower = text.prefix(8).lowercased()
    return lower.hasPrefix("hf://") || lower.hasPrefix("http://") || lower.hasPrefix("https://")
  }

  /// Reads an address. Pages of the hub itself (`https://huggingface.co/org/name/tree/main`) mean the repository.
  /// - Throws: `RequestError` usage.
  init(_ text: String, endpoint: String) throws {
    if text.lowercased().hasPrefix("hf://") {
      self = try ModelAddress.hub(String(text.dropFirst(5)), text)
      return
    }
    guard let address = WebAddress(text) else {
      throw RequestError(
        .usage, "'\(text)' is no address that files can be fetched from",
        help: "give https://host/folder/ without a user name; a token for the hub comes from HF_TOKEN")
    }
    if let hub = WebAddress(endpoint), address.isSameOrigin(hub), address.path.hasPrefix(hub.path),
      let found = ModelAddress.page(String(address.path.dropFirst(hub.path.count)))
    {
      self = found
    } else {
      self = .web(address)
    }
  }

  private static func hub(_ rest: String, _ text: String) throws -> ModelAddress {
    func refusal(_ problem: String) -> RequestError {
      RequestError(
        .usage, "'\(text)' \(problem)",
        help: "give hf://org/name, hf://org/name@revision or hf://org/name/file.gguf")
    }
    var parts = rest.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
    guard parts.count >= 2 else { throw refusal("names no repository") }
    var revision = "main"
    if let at = parts[1].firstIndex(of: "@") {
      revision = String(parts[1][parts[1].index(after: at)...])
      parts[1] = String(parts[1][..<at])
      // A branch of a pull request or of a conversion has slashes of its own.
      if revision == "refs", parts.count >= 4, parts[2] == "pr" || parts[2] == "convert" {
        revision = parts[2] == "pr" ? "refs/pr/\(parts[3])" : "refs/convert/\(parts[3])"
        parts.removeSubrange(2...3)
      }
      guard let plain = WebAddress.decoded(revision), isRevision(plain) else {
        throw refusal("names no revision")
      }
      revision = plain
    }
    let id = "\(parts[0])/\(parts[1])"
    guard RepositoryName.isIdentifier(id) else { throw refusal("names no repository") }
    let path = parts[2...].joined(separator: "/")
    guard path.isEmpty || RemotePath.problem(path) == nil else {
      throw refusal("names no file of a repository")
    }
    return .hub(RepositoryName(id: id, revision: revision), path: path)
  }

  private static func isRevision(_ text: String) -> Bool {
    (1...255).contains(text.utf8.count)
      && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"\\^~:?*[".utf8.contains($0) }
      && !text.contains("..") && !text.hasPrefix("/") && !text.hasPrefix("-")
  }

  /// `org/name`, `org/name/tree/revision/folder`, `org/name/resolve/revision/file`.
  private static func page(_ path: String) -> ModelAddress? {
    let parts = path.split(separator: "/").compactMap { WebAddress.decoded($0) }
    guard parts.count >= 2 else { return nil }
    let id = "\(parts[0])/\(parts[1])"
    guard RepositoryName.isIdentifier(id) else { return nil }
    if parts.count == 2 { return .hub(RepositoryName(id: id, revision: "main"), path: "") }
    guard ["tree", "blob", "resolve", "raw"].contains(parts[2]), parts.count >= 4, isRevision(parts[3]) else {
      return nil
    }
    let inner = parts[4...].joined(separator: "/")
    guard inner.isEmpty || RemotePath.problem(inner) == nil else { return nil }
    return .hub(RepositoryName(id: id, revision: parts[3]), path: inner)
  }
}
