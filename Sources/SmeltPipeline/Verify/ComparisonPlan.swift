// How the windows of a comparison run: in which groups, and over which of them what needs a further pass is measured.

import SmeltModels

/// How the windows of a comparison run.
struct ComparisonPlan {
  /// Tokens for which the noise of rounding and the forced routing are measured unless all are asked for: a mean needs no more.
  static let sampleTokens = 2048

  /// Windows of one group that belong to the sample.
  struct Sample {
    /// The group's place in `groups`.
    let group: Int
    /// The windows alone.
    let batch: TokenBatch
    /// For each of their tokens, in order, its place in the group.
    let places: [Int]

    /// The sample's rows whose tokens lie in some rows of the group: they follow each other in both.
    func rows(in range: Range<Int>) -> Range<Int> {
      let first = places.firstIndex { $0 >= range.lowerBound } ?? places.count
      let end = places.firstIndex { $0 >= range.upperBound } ?? places.count
      return first..<end
    }
  }

  /// The windows, in groups of which a few activations fit into memory.
  let groups: [TokenBatch]
  /// The sample, by the groups that have windows in it.
  let samples: [Sample]
  /// Whether the activations of all passes stay in memory; else they wait in files.
  let inMemory: Bool

  /// - Parameters:
  ///   - isFull: whether the sample is all windows.
  ///   - sample: the windows of the sample, where these are a part of all; nil: of their own.
  init(
    _ windows: Windows, _ dimensions: ModelDimensions, hasRounding: Bool, isFull: Bool = false,
    sample: Set<Int>? = nil, _ options: RunOptions
  ) {
    let together = windows.groups(dimensions, streams: hasRounding ? 5 : 4, maxMemory: options.maxMemory)
    inMemory = together.count == 1
    // Waiting, at most four of them are there at once: for the logits, when no layer needs room.
    groups = inMemory ? together : windows.groups(dimensions, streams: 3, maxMemory: options.maxMemory)
    let lengths = windows.sequences.map(\.count)
    let chosen = sample ?? ComparisonPlan.sample(lengths, isFull: isFull)
    var before = 0
    var samples: [Sample] = []
    for (group, batch) in groups.enumerated() {
      let own = (0..<batch.sequenceCount).filter { chosen.contains(before + $0) }
      // A window in pieces is one window, and the pieces are in the sample or not together.
      before += batch.following.isEmpty ? batch.sequenceCount : 0
      guard !own.isEmpty else { continue }
      samples.append(
        Sample(
          group: group,
          batch: batch.isPiece
            ? batch.separated() : TokenBatch(own.map { Array(batch.ids[batch.range($0)]) }),
          places: own.flatMap { Array(batch.range($0)) }))
    }
    self.samples = samples
  }

  /// The windows of the sample.
  /// - Parameter lengths: tokens of each window.
  static func sample(_ lengths: [Int], isFull: Bool) -> Set<Int> {
    Set(isFull ? Array(lengths.indices) : spread(lengths))
  }

  /// The first window and others at equal steps, as few as have `sampleTokens` together, or all. Groups play no part.
  static func spread(_ lengths: [Int]) -> [Int] {
    for count in 1..<max(1, lengths.count) {
      let places = (0..<count).map { $0 * lengths.count / count }
      if places.reduce(0, { $0 + lengths[$1] }) >= sampleTokens { return places }
    }
    return Array(lengths.indices)
  }
}

extension Routing {
  /// The choices of some tokens.
  func taking(_ tokens: [Int]) -> Routing {
    func taken<T>(_ values: [T]) -> [T] {
      tokens.flatMap { values[$0 * perToken..<($0 + 1) * perToken] }
    }
    return Routing(perToken: perToken, experts: taken(experts), weights: taken(weights))
  }
}
