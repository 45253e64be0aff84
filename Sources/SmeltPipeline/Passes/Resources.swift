// What a command took: time, memory, bytes from the containers.

package import SmeltStorage

/// What running a model took.
package struct Resources: Sendable, Hashable {
  /// Wall time.
  package var seconds = 0.0
  /// Peak resident memory of the process, mapped pages included.
  package var peakMemoryBytes = 0
  /// Bytes of weights that came from the containers, as stored there; a weight that was given back and comes again counts
  /// again.
  package var bytesRead = 0
  /// Uses of a weight, from the first product to the last before it is needed no more, that found it in memory.
  package var cacheHits = 0
  /// Uses of a weight that had to read it, or for which it was read ahead.
  package var cacheMisses = 0
  /// Bytes of activations that waited in files.
  package var spilledBytes = 0

  /// Nothing yet.
  package init() {}

  /// The share of uses that found the weight in memory; not a number without any use.
  package var hitRate: Double { Double(cacheHits) / Double(cacheHits + cacheMisses) }

  /// The contract's JSON.
  package var json: JSON {
    [
      "seconds": JSON(seconds), "peak_memory_bytes": JSON(peakMemoryBytes), "bytes_read": JSON(bytesRead),
      "cache_hits": JSON(cacheHits), "cache_misses": JSON(cacheMisses), "cache_hit_rate": JSON(hitRate),
      "spilled_bytes": JSON(spilledBytes),
    ]
  }

  /// For people: what was read.
  package var readText: String {
    let uses = cacheHits + cacheMisses
    return "\(byteText(bytesRead)) read"
      + (uses > 0 ? ", weight cache: \(fixed(100 * hitRate, 1)) % hits of \(grouped(uses))" : "")
      + (spilledBytes > 0 ? ", \(byteText(spilledBytes)) of activations waited in a file" : "")
  }
}
