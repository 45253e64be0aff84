// Where statistics go as they are learned.

import SmeltQuantization

/// Where statistics go as they are learned: entries and counts of one section of the layout after the other.
protocol StatisticsSink: ~Copyable {
  /// Takes a section: an entry for each of its weights, in order, and the tokens and sources of its experts, if any.
  mutating func write(_ entries: [StatisticsEntry], _ tokens: ExpertTokens?, _ sources: ExpertSources?) throws
  /// Everything was written.
  consuming func commit() throws
}
