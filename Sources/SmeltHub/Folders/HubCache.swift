// The hub's cache on this machine, as huggingface_hub lays it out: models--org--name/{refs,blobs,snapshots}.

import SmeltStorage

/// One repository in the cache.
struct HubCache {
  let folder: String

  /// A repository's folder.
  init(folder: String) { self.folder = folder }

  /// The folder of `org/name` in a cache.
  init(_ cache: String, _ id: String) {
    folder = joinPath(cache, "models--" + id.split(separator: "/").joined(separator: "--"))
  }

  private func place(_ commit: String) -> String { joinPath(joinPath(folder, "snapshots"), commit) }

  /// The folder of a revision's files, as far as they are here; nil where none is.
  func snapshot(_ revision: String) -> String? {
    var commit = revision
    if !HubHash.isOne(revision, 40) {
      guard
        let bytes = try? readSmallFile(
          joinPath(joinPath(folder, "refs"), revision), limit: 256, code: .netListing)
      else {
        // A copy without refs: the only snapshot there is.
        let all = (try? namesInFolder(joinPath(folder, "snapshots"))) ?? []
        return revision == "main" && all.count == 1 && HubHash.isOne(all[0], 40) ? place(all[0]) : nil
      }
      commit = String(String(decoding: bytes.array, as: UTF8.self).filter { !$0.isWhitespace })
      guard HubHash.isOne(commit, 40) else { return nil }
    }
    return pathKind(place(commit)) == .directory ? place(commit) : nil
  }

  /// The folder of a commit's files where all that a model is read from is here with its size: the file that is asked for, or
  /// everything but other weights.
  func whole(_ commit: String, _ files: [RemoteEntry], _ inner: String) -> String? {
    guard pathKind(place(commit)) == .directory else { return nil }
    let start = inner.isEmpty ? "" : inner + "/"
    let below = files.filter { $0.path.hasPrefix(start) }.map { String($0.path.dropFirst(start.count)) }
    let weights = Set(RemotePath.weights(below.filter { !$0.contains("/") }).map { start + $0 })
    let needed = files.filter { file in
      if file.path == inner || weights.contains(file.path) { return true }
      return file.path.hasPrefix(start)
        && [".json", ".jinja", ".model", ".txt"].contains { file.path.hasSuffix($0) }
    }
    let isHere = needed.allSatisfy { file in
      let path = joinPath(place(commit), file.path)
      return pathKind(path) == .file && fileByteCount(path) == file.count
    }
    return isHere && !needed.isEmpty ? place(commit) : nil
  }
}
