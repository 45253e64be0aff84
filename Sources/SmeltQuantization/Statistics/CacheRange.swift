// How large the keys and values are that a layer keeps for later tokens. Formats/statistics.md, section 3.

internal import SmeltModels
package import SmeltStorage
internal import SmeltTensors

/// The largest magnitudes among what a layer keeps of its tokens. Of latent attention, which keeps one vector for both, the two are
/// the same. 0: a layer keeps nothing of the kind.
package struct CacheRange: Sendable, Equatable {
  /// The layer.
  package let layer: Int
  /// The largest magnitude of a key, normed and rotated.
  package private(set) var keys: Float
  /// The largest magnitude of a value.
  package private(set) var values: Float

  /// A range of known magnitudes.
  package init(layer: Int, keys: Float = 0, values: Float = 0) {
    self.layer = layer
    self.keys = keys
    self.values = values
  }

  /// Widens it.
  mutating func add(_ magnitude: Float, _ part: CachePart) {
    if part != .values { keys = max(keys, magnitude) }
    if part != .keys { values = max(values, magnitude) }
  }

  /// The name of a layer's tensor: `blk.7.attn_cache.absmax`.
  package static func tensorName(_ layer: Int) -> String { "blk.\(layer).attn_cache.absmax" }

  /// The layer of a tensor's name, or nil when it is no such name.
  static func layer(ofTensor name: String) -> Int? {
    guard name.hasPrefix("blk."), name.hasSuffix(".attn_cache.absmax"),
      let layer = Int(name.dropFirst(4).dropLast(".attn_cache.absmax".count)), layer >= 0,
      tensorName(layer) == name
    else { return nil }
    return layer
  }

  /// F32 [2]: keys, values.
  package var tensor: StatisticsTensor {
    StatisticsTensor(
      name: CacheRange.tensorName(layer), dtype: .f32, shape: [2], bytes: littleEndian([keys, values]))
  }
}

extension Statistics {
  /// The range of what a layer keeps, or nil where the file does not say.
  /// - Throws: `STAT_FORMAT`.
  package func cacheRange(layer: Int) throws(FormatError) -> CacheRange? {
    guard let tensor = tensor(CacheRange.tensorName(layer)) else { return nil }
    let numbers = try floats(tensor)
    return CacheRange(layer: layer, keys: numbers[0], values: numbers[1])
  }
}
