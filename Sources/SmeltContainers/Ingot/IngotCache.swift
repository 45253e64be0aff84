// Inflated weights of an ingot, kept until the room is needed.

internal import SmeltStorage
internal import SmeltTensors

/// Weights by their place in the index.
typealias IngotCache = BoundedCache<Int, Weight>

extension IngotFile {
  /// Bytes of inflated weights that are kept at most. Nothing is kept where someone else does the keeping.
  package var cacheLimit: Int {
    get { cache.limit }
    set { cache.limit = newValue }
  }
}
