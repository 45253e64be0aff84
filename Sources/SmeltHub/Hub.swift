// Models that are not on this machine: their addresses become paths that the rest of the program reads like any other.

import SmeltStorage

/// What a command says of models elsewhere.
package struct RemoteOptions: Sendable {
  /// Whether `org/name` means a repository where no such path exists.
  package var isHub = false
  /// The folder of a hub cache in which what is fetched is kept; nil where it is not.
  package var keep: String?
  /// Whether hosts other than this machine may be asked without encryption.
  package var allowsHTTP = false

  /// The usual ones.
  package init() {}
}

/// Mounts models.
package enum Hub {
  /// Whether a text is an address of a model elsewhere.
  package static func isAddress(_ text: String) -> Bool { ModelAddress.isAddress(text) }

  /// Whether a text could be a repository of the hub.
  package static func isRepository(_ text: String) -> Bool { RepositoryName.isIdentifier(text) }

  /// Makes a model at an address readable, and returns the path to open. Nothing but lists and small files is fetched yet. A model
  /// that is mounted already stays as it was found then.
  /// - Throws: `NET_ACCESS`, `NET_LISTING`, `NET_RANGE`; `RequestError` usage, unsupported, io.
  package static func path(_ text: String, _ options: RemoteOptions, _ settings: HubSettings = .environment)
    throws
    -> String
  {
    var settings = settings
    settings.allowsHTTP = options.allowsHTTP
    let address = try ModelAddress(text, endpoint: settings.endpoint)
    switch address {
    case .hub(let name, let inner): return try repository(name, inner, text, options, settings)
    case .web(let address):
      guard options.keep == nil else {
        throw RequestError(
          .usage, "--keep is for repositories of the hub, whose files have a commit and a hash",
          help: "give hf://org/name, or leave --keep away")
      }
      return try web(address, settings)
    }
  }

  private static func repository(
    _ name: RepositoryName, _ inner: String, _ text: String, _ options: RemoteOptions, _ settings: HubSettings
  ) throws -> String {
    let root = "hf://\(name.id)" + (name.revision == "main" ? "" : "@\(name.revision)")
    let path = inner.isEmpty ? root : joinPath(root, inner)
    if Mounts.folder(root) != nil { return path }
    let cache = HubCache(settings.cache, name.id)
    let kept = options.keep.map { HubCache($0, name.id) }
    if settings.isOffline {
      guard let snapshot = cache.snapshot(name.revision) else {
        throw RequestError(
          .io, "HF_HUB_OFFLINE is set, and '\(text)' is not in the cache '\(settings.cache)'",
          help: "fetch it once with the variable unset and --keep '\(settings.cache)'")
      }
      return inner.isEmpty ? snapshot : joinPath(snapshot, inner)
    }
    let repository = HubRepository(client: WebClient(settings), name: name)
    let commit = try repository.commit()
    let files = try repository.files(commit)
    if let whole = ([kept, cache].lazy.compactMap { $0?.whole(commit, files, inner) }).first {
      return inner.isEmpty ? whole : joinPath(whole, inner)
    }
    try kept?.note(name.revision, commit)
    let folder = try RemoteFolder(
      address: "hf://\(name.id)", commit: commit, files, keptIn: kept)
    guard folder.kind(inner) != .nothing else {
      throw FormatError(.missingFile, file: text, "the repository has no such file or folder")
    }
    Mounts.add(root, folder)
    if folder.kind(inner) == .directory { folder.begin(inner) }
    return path
  }

  private static func web(_ address: WebAddress, _ settings: HubSettings) throws -> String {
    let client = WebClient(settings)
    var home = address
    let last =
      address.path.split(separator: "/", omittingEmptySubsequences: false).last.flatMap {
        WebAddress.decoded($0)
      } ?? ""
    let isFile = [".gguf", ".ingot"].contains { last.lowercased().hasSuffix($0) }
    if isFile {
      home.path = String(address.path[...(address.path.lastIndex(of: "/") ?? address.path.startIndex)])
    } else if !home.path.hasSuffix("/") {
      home.path += "/"
    }
    var plain = home
    plain.query = nil
    let root = withoutSlash(plain.text)
    let path = isFile ? joinPath(root, last) : root
    if let mounted = Mounts.folder(root), mounted.kind(isFile ? last : "") != .nothing { return path }
    let folder = WebFolder(client: client, address: home)
    let files = try isFile ? folder.file(last) : folder.folder()
    guard files.contains(where: { isFile || $0.path.hasSuffix(".json") || $0.path.hasSuffix(".safetensors") })
    else {
      throw FormatError(
        .netAccess, file: address.shown, "there is no config.json, no model.safetensors and no index of one",
        help: "give the address of the folder that holds them, or of a .gguf or .ingot file")
    }
    let mounted = try RemoteFolder(address: plain.text, commit: nil, files)
    Mounts.add(root, mounted)
    if !isFile { mounted.begin("") }
    return path
  }

  /// Where a mounted path comes from: the address, and the commit of a repository. Nil of any other path.
  package static func origin(_ path: String) -> (address: String, commit: String?)? {
    guard let (folder, inner) = Mounts.find(path), let remote = folder as? RemoteFolder else { return nil }
    return (inner.isEmpty ? remote.address : joinPath(remote.address, inner), remote.commit)
  }

  /// How many files of weights in a mounted folder have a hash that nobody checks while ranges of them are read.
  package static func uncheckedFiles(_ path: String) -> Int {
    (Mounts.find(path)?.folder as? RemoteFolder)?.uncheckedFiles(below: Mounts.find(path)?.path ?? "") ?? 0
  }

  /// The snapshot that a folder of the hub's cache (`models--org--name`) stands for: that of `main`, or the only one. Nil of any
  /// other folder.
  package static func snapshot(_ path: String) -> String? {
    guard fileName(path).hasPrefix("models--"), pathKind(joinPath(path, "snapshots")) == .directory,
      pathKind(joinPath(path, "config.json")) == .nothing
    else { return nil }
    return HubCache(folder: withoutSlash(path)).snapshot("main")
  }
}
