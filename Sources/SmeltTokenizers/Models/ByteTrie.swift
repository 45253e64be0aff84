// A trie over byte strings: every token that a text begins with, shortest first, without a look-up of the whole.

/// Byte strings with numbers, ready for searching by prefix. The children of a node lie side by side, ascending.
struct ByteTrie: Sendable {
  /// The children of the root by their byte, or -1.
  private var roots = [Int32](repeating: -1, count: 256)
  private var labels: [UInt8] = [0]
  private var firstChild: [Int32] = [0]
  private var childCount: [UInt16] = [0]
  private var values: [Int32] = [-1]

  /// The trie of strings that are not empty; of equal strings the last one counts.
  /// - Parameter entries: the strings with numbers that are not negative; altogether fewer than 2^31 bytes.
  init(_ entries: [(key: [UInt8], value: Int32)]) {
    let sorted = entries.indices.filter { !entries[$0].key.isEmpty }.sorted {
      let (a, b) = (entries[$0].key, entries[$1].key)
      return a.lexicographicallyPrecedes(b) || a == b && $0 < $1
    }
    // Breadth first: a range of sorted strings that share `depth` bytes, and their node.
    var queue: [(range: Range<Int>, depth: Int, node: Int)] = [(0..<sorted.count, 0, 0)]
    var head = 0
    while head < queue.count {
      let (range, depth, node) = queue[head]
      head += 1
      var position = range.lowerBound
      while position < range.upperBound, entries[sorted[position]].key.count == depth {
        values[node] = entries[sorted[position]].value
        position += 1
      }
      firstChild[node] = Int32(labels.count)
      while position < range.upperBound {
        let byte = entries[sorted[position]].key[depth]
        var end = position + 1
        while end < range.upperBound, entries[sorted[end]].key[depth] == byte { end += 1 }
        if node == 0 { roots[Int(byte)] = Int32(labels.count) }
        queue.append((position..<end, depth + 1, labels.count))
        childCount[node] += 1
        labels.append(byte)
        firstChild.append(0)
        childCount.append(0)
        values.append(-1)
        position = end
      }
    }
  }

  /// The node that `byte` leads to from `node`, or -1. The root is 0.
  @inline(__always)
  func child(_ node: Int, _ byte: UInt8) -> Int {
    if node == 0 { return Int(roots[Int(byte)]) }
    var low = Int(firstChild[node])
    var high = low + Int(childCount[node])
    while low < high {
      let middle = (low + high) / 2
      let label = labels[middle]
      if label == byte { return middle }
      if label < byte { low = middle + 1 } else { high = middle }
    }
    return -1
  }

  /// The number of the string that ends at a node, or -1.
  @inline(__always)
  func value(_ node: Int) -> Int32 { values[node] }

  /// The length of the longest string that `text` holds at `start`; 0 for none.
  func longest(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
    // SAFETY: a byte is read while `position` is below the count; nodes are places in arrays, which check them.
    var node = 0
    var position = start
    var found = 0
    while position < text.count {
      node = child(node, text[position])
      guard node >= 0 else { break }
      position += 1
      if values[node] >= 0 { found = position - start }
    }
    return found
  }
}
