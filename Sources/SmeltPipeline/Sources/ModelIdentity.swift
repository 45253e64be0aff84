// What a model's files are, so that a run can tell whether they are those of another run.

import SmeltStorage

extension Model {
  /// What the source's files are: names, sizes, times, and the hash of their first MiB.
  /// - Parameter hasTimes: whether times count: copies on several machines have others.
  func identity(hasTimes: Bool = true) throws -> JSON {
    JSON(
      try files.map { file -> JSON in
        let mapping = try MappedFile(path: file.path)
        let head = mapping.bytes[0..<min(mapping.count, 1 << 20)].withUnsafeBytes { xxh64($0) }
        let times = hasTimes ? [("changed", JSON(mapping.changed))] : []
        return JSON(
          members: [("name", JSON(fileName(file.path))), ("bytes", JSON(file.byteCount))] + times
            + [("head_xxh64", JSON(hexadecimal(head)))])
      })
  }
}
