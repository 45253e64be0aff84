// How the windows of a comparison run: in which groups, and which of them measure the noise.

import SmeltModels

/// Tokens for which the noise of rounding alone is measured: a few windows are enough for a mean.
private let floorTokens = 2048

/// How the windows of a comparison run.
struct ComparisonPlan {
  /// The windows, in groups of which a few activations fit into memory.
  let groups: [TokenBatch]
  /// For the first groups, the windows over which the noise of rounding is measured.
  let noisy: [TokenBatch]
  /// Whether the activations of all passes stay in memory; else they wait in files.
  let inMemory: Bool

  init(_ windows: Windows, _ dimensions: ModelDimensions, hasRounding: Bool, _ options: RunOptions) {
    let together = windows.groups(dimensions, streams: hasRounding ? 5 : 4, maxMemory: options.maxMemory)
    inMemory = together.count == 1
    // Waiting, at most four of them are there at once: for the logits, when no layer needs room.
    groups = inMemory ? together : windows.groups(dimensions, streams: 3, maxMemory: options.maxMemory)
    var left = floorTokens
    noisy = groups.compactMap { noiseBatch($0, &left) }
  }
}

/// The first windows of a batch, as long as fewer than `left` tokens were taken; at least one window the first time.
private func noiseBatch(_ batch: TokenBatch, _ left: inout Int) -> TokenBatch? {
  var sequences: [[Int]] = []
  for sequence in 0..<batch.sequenceCount where left > 0 {
    sequences.append(Array(batch.ids[batch.range(sequence)]))
    left -= batch.range(sequence).count
  }
  return sequences.isEmpty ? nil : TokenBatch(sequences)
}
