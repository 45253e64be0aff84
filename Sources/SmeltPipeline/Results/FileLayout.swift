// Results in plain files, safetensors and GGUF: where every slab will lie is known before a byte is written.

/// A place in a result's files.
package struct FilePlace: Sendable, Hashable {
  /// The file, counted from 0.
  package var file: Int
  /// The place in it, in bytes from its start.
  package var position: Int
}

/// Where the slabs of a result of plain files lie. Depends on headers, recipe and options alone.
package struct FileLayout: Sendable {
  /// The names of the files, in order.
  package let names: [String]
  /// Their bytes.
  package let sizes: [Int]
  /// The file of each slab, in the plan's order.
  package let files: [Int]
  /// For each slab: where the files end once it is written; nil where something that belongs to it comes later.
  package let ends: [FilePlace?]
  /// XXH64 of everything in the files but the weights' numbers.
  package let hash: UInt64
}
