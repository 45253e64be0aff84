// A checkpoint's safetensors: one file, or shards with an index. Index and shards must say the same, every shard must
// lie in the folder (or in the hub cache's own blobs), and all of that is known before a tensor is handed out.

package import SmeltStorage
internal import SmeltTensors

/// The tensors of a checkpoint's folder. Formats/safetensors.md, rules 22 to 30.
package final class SafetensorsDirectory: TensorSource {
  /// The folder, as the caller knows it.
  package let path: String
  /// The opened files, in order of their names.
  package let shards: [SafetensorsFile]
  /// All tensors, shard after shard; of a tensor that several shards hold, the one that the index names.
  package let tensors: [TensorInfo]
  /// What is worth saying: `IDX_TOTAL`, `IDX_DUPLICATE` for copies that the index does not use, `IDX_MISMATCH` for files
  /// that it does not name, and `IDX_MISSING` for a complete set of shards without an index.
  package let warnings: [FormatError]
  private let table: NameTable
  private let index: MappedFile?
  private let endings: NameEndings

  /// Opens the safetensors of a folder: those `model.safetensors.index.json` names; else `model.safetensors`; else a
  /// complete set of shards `…-00001-of-0000N.safetensors`; else the only safetensors file there is. Files beside
  /// those are left alone.
  /// - Throws: `FormatError` with one of the codes `SRC_…`, `ST_…`, `IDX_…`; `RequestError` io when the system refuses.
  package init(path: String) throws {
    let folder = try ShardFolder(path)
    var warnings: [FormatError] = []
    var index: (file: MappedFile, path: String, content: SafetensorsIndex)?
    var names: [String]
    if folder.names.contains(SafetensorsIndex.fileName) {
      let place = folder.file(SafetensorsIndex.fileName)
      let file = try MappedFile(path: folder.resolve(SafetensorsIndex.fileName))
      let content = try SafetensorsIndex(file.bytes.fetched(), file: place)
      index = (file, place, content)
      names = content.shards
      try folder.requireAll(names, namedBy: place)
      if let warning = SafetensorsDirectory.unnamed(folder, names, place) { warnings.append(warning) }
    } else {
      names = try folder.namesWithoutIndex()
      if names.count > 1 {
        warnings.append(
          FormatError(
            .idxMissing, file: path, subject: SafetensorsIndex.fileName,
            "there is no index; all \(names.count) shards are there and were read",
            help: "fetch the index to be sure that the shards belong together"))
      }
    }
    let shards = try names.map { try SafetensorsFile(path: folder.file($0), resolved: folder.resolve($0)) }
    let united = try SafetensorsDirectory.unite(shards, index.map { ($0.content, $0.path) })
    warnings += united.warnings
    if let index {
      try SafetensorsDirectory.compare(index.content, index.path, shards, united)
      warnings += SafetensorsDirectory.total(index.content, index.path, united)
      index.file.bytes.evict()
    }
    self.path = path
    self.shards = shards
    self.index = index?.file
    self.warnings = warnings
    tensors = united.tensors
    table = united.table
    endings = NameEndings(united.tensors)
  }

  /// The tensor of a name, or nil.
  package func tensor(_ name: String) -> TensorInfo? {
    table.find(NameTable.hash(name)) { tensors[$0].name == name }.map { tensors[$0] }
  }

  /// The tensor of a name in two pieces, or nil.
  package func tensor(_ stem: String, ending: String) -> TensorInfo? {
    var (stem, ending) = (stem, ending)
    // SAFETY: lent for the calls; the memory has room for both pieces.
    return stem.withUTF8 { stem in
      ending.withUTF8 { ending in
        withUnsafeTemporaryAllocation(byteCount: stem.count + ending.count, alignment: 8) { name in
          name.copyBytes(from: stem)
          UnsafeMutableRawBufferPointer(rebasing: name[stem.count...]).copyBytes(from: ending)
          let text = UnsafeRawBufferPointer(name)
          guard let hash = NameTable.hash(ascii: text) else {
            return tensor(String(decoding: text, as: UTF8.self))
          }
          return table.find(hash) { tensors[$0].isNamed(text) }.map { tensors[$0] }
        }
      }
    }
  }

  /// Whether some name's last part, behind its last dot, has this end.
  package func mayHold(ending: String) -> Bool { endings.mayHold(ending) }

  /// The files that hold the tensors, with their sizes; the index is not one of them.
  package var files: [(path: String, byteCount: Int)] { shards.flatMap(\.files) }

  /// Throws `SRC_CHANGED` when a shard or the index is no longer what it was (rule 30).
  package func checkUnchanged() throws(FormatError) {
    try index?.checkUnchanged()
    for shard in shards { try shard.checkUnchanged() }
  }
}
