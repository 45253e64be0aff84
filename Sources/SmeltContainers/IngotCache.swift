// Inflated weights, kept until the room is needed: least recently used first to go.

internal import SmeltTensors
internal import Synchronization

/// A bounded cache of weights by their place in the index. Safe to use from many threads.
final class IngotCache: Sendable {
  private let limit: Int
  private let state = Mutex(State())

  /// Keeps at most `limit` bytes.
  init(limit: Int) { self.limit = limit }

  /// The weight, if it is kept; it becomes the most recently used.
  func find(_ key: Int) -> Weight? {
    state.withLock { state in
      guard let node = state.nodes[key] else { return nil }
      state.unlink(node)
      state.pushFront(node)
      return node.weight
    }
  }

  /// Keeps a weight of `byteCount` bytes; a weight larger than the cache is not kept.
  func keep(_ key: Int, _ weight: Weight, byteCount: Int) {
    guard byteCount <= limit else { return }
    // Weights are freed after the lock is given back: giving back memory takes time.
    var dropped: [Weight] = []
    state.withLock { state in
      if let old = state.nodes[key] { dropped.append(state.remove(old)) }
      while state.byteCount > limit - byteCount, let last = state.last { dropped.append(state.remove(last)) }
      state.add(Node(key: key, weight: weight, byteCount: byteCount))
    }
    withExtendedLifetime(dropped) {}
  }

  /// Bytes kept now.
  var byteCount: Int { state.withLock { $0.byteCount } }

  private final class Node {
    let key: Int
    let weight: Weight
    let byteCount: Int
    var next: Node?
    unowned(unsafe) var previous: Node?

    init(key: Int, weight: Weight, byteCount: Int) {
      self.key = key
      self.weight = weight
      self.byteCount = byteCount
    }
  }

  /// A list from the most to the least recently used, and a map into it.
  private struct State: ~Copyable {
    var nodes: [Int: Node] = [:]
    var first: Node?
    var last: Node?
    var byteCount = 0

    mutating func add(_ node: Node) {
      nodes[node.key] = node
      byteCount += node.byteCount
      pushFront(node)
    }

    mutating func remove(_ node: Node) -> Weight {
      unlink(node)
      nodes[node.key] = nil
      byteCount -= node.byteCount
      return node.weight
    }

    mutating func pushFront(_ node: Node) {
      node.next = first
      node.previous = nil
      first?.previous = node
      first = node
      if last == nil { last = node }
    }

    mutating func unlink(_ node: Node) {
      if let previous = node.previous { previous.next = node.next } else { first = node.next }
      if let next = node.next { next.previous = node.previous } else { last = node.previous }
      node.next = nil
      node.previous = nil
    }

    deinit {
      // A long chain of owners would be freed recursively.
      var node = first
      while let current = node {
        node = current.next
        current.next = nil
      }
    }
  }
}
