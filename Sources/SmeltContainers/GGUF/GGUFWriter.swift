// Writing GGUF: all tensors and keys are known first (`GGUFPlan`), so that every header is final before the first byte
// of data and nothing is held in memory. The same plan and bytes always give the same files.

package import SmeltStorage
internal import SmeltTensors

/// A GGUF model being written beside its target, in one file or several. Dropping it without `commit` leaves nothing
/// behind.
package struct GGUFWriter: ~Copyable {
  /// A file of a model. A class, since arrays hold no writers.
  private final class File {
    var writer: FileWriter?
    /// Whether it has its name already.
    let isNamed: Bool

    init(_ writer: consuming FileWriter) {
      self.writer = consume writer
      isNamed = false
    }

    /// A file that has its name.
    init() { isNamed = true }
  }

  private let plan: GGUFPlan
  private let paths: [String]
  private let replacement: Replacement
  private let isResumable: Bool
  /// Whether the files stay when the writer is dropped.
  private var isKept = false
  /// The files started so far; all but the last are finished and closed.
  private var files: [File] = []
  /// The next tensor of the last file, and the bytes it still needs.
  private var current = 0
  private var left = 0

  /// Starts a model of one file.
  /// - Throws: as `init(path:plan:replacing:)` and `GGUFPlan`.
  package init(
    path: String, tensors: [GGUFPlan.Tensor], metadata: [(key: String, value: GGUFValue)],
    replacing replacement: Replacement = .nothing
  ) throws {
    try self.init(path: path, plan: GGUFPlan(tensors: tensors, metadata: metadata), replacing: replacement)
  }

  /// Starts a model; its files are `plan.paths(path)`.
  /// - Parameter isResumable: whether another run may go on with it; the bytes of the files are summed then.
  /// - Throws: `RequestError` cannot-create when one of the files exists and is not to be replaced or the folder is not
  ///   writable; io when the disk is full.
  package init(
    path: String, plan: GGUFPlan, replacing replacement: Replacement = .nothing, isResumable: Bool = false
  ) throws {
    self.plan = plan
    self.replacement = replacement
    self.isResumable = isResumable
    paths = plan.paths(path)
    for path in paths { try requireCreatable(path, replacing: replacement) }
    try start()
  }

  /// Continues a model that an interrupted run left.
  /// - Parameters:
  ///   - places: where each of its files ends so far, and the CRC-32C of what it holds; all but the last are whole.
  ///   - mayBeNamed: whether all files are whole, so that some may have their names.
  /// - Throws: `RESUME_MISMATCH` when a file does not hold what was written; `RequestError` cannot-create, io.
  package init(
    resuming path: String, plan: GGUFPlan, _ places: [(position: Int, sum: UInt64)], mayBeNamed: Bool,
    replacing replacement: Replacement
  ) throws {
    self.plan = plan
    self.replacement = replacement
    (isResumable, isKept) = (true, true)
    paths = plan.paths(path)
    for (path, place) in zip(paths, places) {
      if mayBeNamed, pathKind(FileWriter.resumablePath(path)) == .nothing, pathKind(path) == .file {
        let found = try FileSum.crc32c.contents(of: path)
        guard found.byteCount == place.position, found.sum == place.sum else {
          throw FormatError(.resumeMismatch, file: path, "is not the file that was written")
        }
        files.append(File())
      } else {
        files.append(
          File(
            try FileWriter(
              resuming: path, at: place.position, replacing: replacement, sum: .crc32c,
              expecting: place.sum)))
      }
    }
    for place in 0..<files.count - 1 { try files[place].writer?.finish() }
    let part = plan.parts[files.count - 1]
    var end = part.header.count
    while current < part.tensors.count {
      left = part.tensors[current].byteCount
      let padded = ceilDivide(left, plan.alignment) * plan.alignment
      guard end + padded <= places[files.count - 1].position else { break }
      (current, left, end) = (current + 1, 0, end + padded)
    }
    left -= places[files.count - 1].position - end
    precondition(left >= 0, "a file is continued behind what was written")
  }

  /// A model whose files are there, under other names.
  /// - Throws: `RequestError` cannot-create, io.
  package init(
    adopting sources: [String], path: String, plan: GGUFPlan, replacing replacement: Replacement
  ) throws {
    self.plan = plan
    self.replacement = replacement
    isResumable = false
    paths = plan.paths(path)
    for path in paths { try requireCreatable(path, replacing: replacement) }
    for (source, path) in zip(sources, paths) {
      var writer = try FileWriter.adopting(source, as: path, replacing: replacement)
      // The last one is finished with the model, as that of a model that was written.
      if files.count + 1 < sources.count { try writer.finish() }
      files.append(File(writer))
    }
    current = plan.parts[files.count - 1].tensors.count
  }

  /// From here on the unfinished files stay when the writer is dropped.
  package mutating func keep() {
    for file in files { file.writer?.keepPartial() }
    isKept = true
  }

  /// Where the file at hand ends so far.
  package var position: Int { files[files.count - 1].writer?.position ?? 0 }

  /// Removes the unfinished files that runs left of a model, whole or in parts.
  package static func discard(_ path: String) {
    removeFile(FileWriter.resumablePath(path))
    let stem = path.hasSuffix(".gguf") ? String(path.dropLast(".gguf".count)) : path
    for name in (try? namesInFolder(parentFolder(path))) ?? [] where name.hasPrefix(fileName(stem)) {
      let rest = String(name.dropFirst(fileName(stem).count))
      if matchesGlob(FileWriter.resumablePath("-?????-of-?????.gguf"), rest) {
        removeFile(joinPath(parentFolder(path), name))
      }
    }
  }

  /// Brings what was written to the disk.
  /// - Returns: the number of the file at hand, counted from 0, where it ends, and the CRC-32C of its bytes.
  /// - Throws: `RequestError` io.
  package func secured() throws -> (file: Int, position: Int, sum: UInt64) {
    let file = files[files.count - 1]
    try file.writer?.sync()
    return (files.count - 1, file.writer?.position ?? 0, file.writer?.sum ?? 0)
  }

  /// Appends the next bytes of the tensor `name`, which must be the planned next one: whole, or part after part.
  /// - Throws: `RequestError` io with the system's reason (disk full, quota, input/output error); cannot-create when a
  ///   further file cannot be started.
  package mutating func write(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
    try advance()
    let tensors = plan.parts[files.count - 1].tensors
    precondition(
      current < tensors.count && tensors[current].name == name, "'\(name)' is not the next planned tensor")
    // SAFETY: the writer copies what it is lent.
    precondition(bytes.count <= left, "'\(name)' has \(left) bytes left, not \(bytes.count)")
    let file = files[files.count - 1]
    try file.writer?.write(bytes)
    left -= bytes.count
    if left == 0 { try file.writer?.pad(to: plan.alignment) }
  }

  /// Appends the next bytes of the tensor `name`.
  package mutating func write(_ name: String, _ bytes: Bytes) throws {
    try bytes.withUnsafeBytes { try write(name, $0) }
  }

  /// Appends the next elements of the tensor `name`, in this machine's byte order, which must be little-endian.
  package mutating func write<T: BitwiseCopyable>(_ name: String, _ elements: [T]) throws {
    try elements.withUnsafeBytes { try write(name, $0) }
  }

  /// Syncs and renames, the first file last: a model of several files cannot be opened before all are there. Where the
  /// system refuses one, none stays, and what would have been replaced is back in its place. Every planned tensor must have been written whole.
  /// - Throws: `RequestError` io or cannot-create when the system refuses.
  package consuming func commit() throws {
    try complete()
    if files.count > 1 {
      try files[files.count - 1].writer?.finish()
      for (file, path) in zip(files, paths) where !file.isNamed {
        try requireCreatable(path, replacing: replacement)
      }
    }
    // Of several files, those that are replaced step aside, the first one first: it must not open the new ones.
    var aside: [AsideFile] = []
    var renamed: [String] = []
    do {
      if files.count > 1, case .only = replacement {
        for (file, path) in zip(files, paths) where !file.isNamed {
          aside += [try AsideFile(path)].compactMap { $0 }
        }
      }
      for (file, path) in zip(files, paths).reversed() where !file.isNamed {
        try file.writer.take()?.commit()
        renamed.append(path)
      }
    } catch {
      for path in renamed { isKept ? FileWriter.withdraw(path) : removeFile(path) }
      for file in aside.reversed() { file.putBack() }
      throw error
    }
    for file in aside { file.remove() }
  }

  /// Writes the files that have no tensors. Every planned tensor must have been written whole.
  /// - Throws: `RequestError` io, cannot-create.
  package mutating func complete() throws {
    try advance()
    let tensors = plan.parts[files.count - 1].tensors
    precondition(
      files.count == plan.parts.count && current == tensors.count,
      "'\(current < tensors.count ? tensors[current].name : "")' is not written whole: \(left) bytes are left"
    )
  }

  /// Moves on to the next tensor when the current one is whole, and to the next file when its last is.
  private mutating func advance() throws {
    let tensors = plan.parts[files.count - 1].tensors
    if left == 0, current < tensors.count {
      current += 1
      left = current < tensors.count ? tensors[current].byteCount : 0
    }
    while current == plan.parts[files.count - 1].tensors.count, files.count < plan.parts.count {
      try files[files.count - 1].writer?.finish()
      try start()
    }
  }

  private mutating func start() throws {
    let part = plan.parts[files.count]
    var writer = try FileWriter(
      path: paths[files.count], replacing: replacement, isResumable: isResumable,
      sum: isResumable ? .crc32c : .none)
    try writer.write(part.header)
    files.append(File(writer))
    current = 0
    left = part.tensors.first?.byteCount ?? 0
  }
}
