// The ways of stretching a rotation beyond the lengths that a model was trained on, other than YaRN (which is in Rope.swift).
// Formulas follow transformers 5's modeling_rope_utils.py; Ding et al., "LongRoPE" (2024) for factors by length.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the frequencies of a rotation differ from theta^(-2i/dimensions).
enum RopeStretch: Sendable, Equatable {
  /// All frequencies are divided by `factor`: positions are that much closer together.
  case linear(factor: Double)
  /// In sequences longer than `positions` tokens the base grows with the length; shorter ones are left as they are.
  case dynamic(factor: Double, positions: Int)
  /// Frequencies that turn less than `low` times in `positions` tokens are divided by `factor`, those that turn more than `high`
  /// times are kept, with a linear transition between the two.
  case llama3(factor: Double, low: Double, high: Double, positions: Double)
  /// Each frequency is divided by a number of its own: of `short` in sequences of at most `positions` tokens, of `long` in
  /// longer ones.
  case longrope(short: [Double], long: [Double], positions: Int)
  /// The first `rotated` pairs turn as in a head that is rotated whole, their frequencies divided by `factor`; the others do not turn.
  case proportional(rotated: Int, factor: Double)

  /// The name that config.json has for it.
  var name: String {
    switch self {
    case .linear: "linear"
    case .dynamic: "dynamic"
    case .llama3: "llama3"
    case .longrope: "longrope"
    case .proportional: "proportional"
    }
  }

  /// Of two lengths with the same key the frequencies are the same; nil where no length changes them.
  func key(length: Int) -> Int? {
    switch self {
    case .linear, .llama3, .proportional: nil
    case .dynamic(_, let positions): max(length, positions)
    case .longrope(_, _, let positions): length > positions ? 1 : 0
    }
  }

  /// One frequency for each pair of channels of a sequence of so many tokens.
  func frequencies(dimensions: Int, theta: Double, length: Int) -> [Double] {
    func plain(_ theta: Double) -> [Double] {
      (0..<dimensions / 2).map { 1 / pow(theta, Double(2 * $0) / Double(dimensions)) }
    }
    switch self {
    case .linear(let factor): return plain(theta).map { $0 / factor }
    case .dynamic(let factor, let positions):
      guard length > positions, dimensions > 2 else { return plain(theta) }
      let growth = factor * Double(length) / Double(positions) - (factor - 1)
      return plain(theta * pow(growth, Double(dimensions) / Double(dimensions - 2)))
    case .llama3(let factor, let low, let high, let positions):
      return plain(theta).map { frequency in
        let turns = positions * frequency / (2 * Double.pi)  // within the original context
        if turns < low { return frequency / factor }
        if turns > high { return frequency }
        let kept = (turns - low) / (high - low)
        return frequency * (kept + (1 - kept) / factor)
      }
    case .longrope(let short, let long, let positions):
      return zip(plain(theta), length > positions ? long : short).map { $0 / $1 }
    case .proportional(let rotated, let factor):
      return plain(theta).enumerated().map { $0 < rotated ? $1 / factor : 0 }
    }
  }
}

/// The tables of a pass, each made for the length of the sequences that it rotates.
///
/// The length is that of the whole sequence, as in a prefill of transformers: all tokens of a window have the same frequencies,
/// whatever other windows are in the batch, and in whatever pieces it runs. A pass that continues a sequence uses the length that the sequence has after it;
/// keys of earlier passes stay as they were rotated.
struct RotaryTables: Sendable {
  private var tables: [RotaryTable] = []
  /// For each sequence of the batch its table.
  private var places: [Int] = []
  private let owners: [Int]

  init(_ rope: RotaryFrequencies, _ batch: TokenBatch) {
    owners = batch.owners
    var known: [Int: Int] = [:]
    for sequence in 0..<batch.sequenceCount {
      let length = batch.firstPosition + batch.range(sequence).count + batch.following.count
      let key = rope.stretch?.key(length: length) ?? 0
      if known[key] == nil {
        known[key] = tables.count
        tables.append(rope.table(batch.firstPosition..<batch.endPosition, length: length))
      }
      places.append(known[key] ?? 0)
    }
  }

  /// The table of a token of the batch.
  subscript(token: Int) -> RotaryTable { tables[places[owners[token]]] }
}
