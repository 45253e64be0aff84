// Models that are not on this machine: the one place where an address becomes a path.

package import SmeltHub
import SmeltStorage

/// Addresses of models.
package enum RemoteModels {
  /// The path to open for what a user gave: an address is mounted, a folder of the hub's cache becomes its snapshot, and any other
  /// path stays.
  /// - Throws: `NET_ACCESS`, `NET_LISTING`, `NET_RANGE`; `RequestError` usage, unsupported, io.
  package static func path(_ given: String, _ options: RemoteOptions) throws -> String {
    if Hub.isAddress(given) { return try Hub.path(given, options) }
    if let snapshot = Hub.snapshot(given) { return snapshot }
    guard Hub.isRepository(given), options.isHub, pathKind(given) == .nothing else { return given }
    return try Hub.path("hf://\(given)", options)
  }

  /// What to do about a path at which nothing lies, where it could be a repository of the hub.
  static func help(_ path: String) -> String? {
    Hub.isRepository(path) ? "if it is a repository of the hub, give hf://\(path), or --hub" : nil
  }

  /// Whether the model at a path is fetched.
  static func isRemote(_ path: String) -> Bool { Hub.origin(path) != nil }

  /// What a result says of a source that was fetched: its address, and the commit that was pinned.
  static func origin(_ path: String) -> [(String, JSON)] {
    guard let origin = Hub.origin(path) else { return [] }
    return [("url", JSON(origin.address))] + (origin.commit.map { [("commit", JSON($0))] } ?? [])
  }

  /// What a conversion says of a source that is fetched, before it begins; nil of any other.
  static func notice(_ path: String) -> String? {
    guard let origin = Hub.origin(path) else { return nil }
    let commit = origin.commit.map { " at commit \($0)" } ?? ""
    let unchecked = Hub.uncheckedFiles(path)
    let hashes =
      unchecked > 0
      ? "; ranges are fetched, so the SHA-256 of \(unchecked) files of weights is not checked (--keep checks it)"
      : ""
    return "\(origin.address)\(commit) is fetched as it is read\(hashes)"
  }

  /// Bytes that are fetched ahead at most.
  static var aheadBytes: Int { PagePool.shared.aheadLimit }

  /// Keeps what is fetched and not in use within a part of the memory that is allowed.
  package static func limitMemory(_ bytes: Int) { PagePool.shared.idleLimit = min(64 << 20, bytes / 8) }
}
