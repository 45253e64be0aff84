// What small files an ingot holds, from its index alone.

extension IngotFile {
  /// The names of the model's small files inside with their sizes, in the order of the file. Nothing is read.
  package var fileSizes: [(name: String, byteCount: Int)] {
    parts.flatMap { part in
      part.index.others.filter { $0.kind == .file }.map { other in
        (other.name, part.index.frame(other.frame).contentLength)
      }
    }
  }
}
