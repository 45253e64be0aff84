// Where statistics go as they are learned.

import SmeltQuantization

/// Where statistics go as they are learned: entries and counts of one section of the layout after the other.
protocol StatisticsSink: ~Copyable {
  /// Takes a section: an entry for each of its weights, in order, what its layer keeps of its tokens, and the tokens and sources of
  /// its experts, if any.
  mutating func write(_ layer: LearnedLayer) throws
  /// Everything was written.
  consuming func commit() throws
}
