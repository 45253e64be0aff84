// What a Huffman coder would need for codes of a byte, without coding them.

/// A histogram of codes and the bits that a Huffman code for it takes.
struct EntropyCost {
  private var counts = [Int](repeating: 0, count: 256)

  /// Counts codes.
  mutating func add(_ codes: [Int8]) {
    // SAFETY: a byte is an index below 256.
    counts.withUnsafeMutableBufferPointer { counts in
      for code in codes { counts[Int(UInt8(bitPattern: code))] += 1 }
    }
  }

  /// The mean length of a code in bits: Σ of the weights of a Huffman tree's inner nodes ÷ codes; 0 for none or one symbol.
  /// Lengths are not limited; zstd's limit of 11 bits matters only to symbols that hardly occur.
  ///
  /// Source: Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952; two queues instead of a heap.
  var bits: Double {
    let leaves = counts.filter { $0 > 0 }.sorted()
    let total = leaves.reduce(0, +)
    guard leaves.count > 1 else { return 0 }
    var inner: [Int] = []
    var (leaf, node, sum) = (0, 0, 0)
    while (leaves.count - leaf) + (inner.count - node) > 1 {
      var weight = 0
      for _ in 0..<2 {
        if leaf < leaves.count, node >= inner.count || leaves[leaf] <= inner[node] {
          weight += leaves[leaf]
          leaf += 1
        } else {
          weight += inner[node]
          node += 1
        }
      }
      inner.append(weight)
      sum += weight
    }
    return Double(sum) / Double(total)
  }
}
