// What was costly to make, kept until the room is needed: least recently used first to go.

internal import Synchronization

/// A bounded cache. Safe to use from many threads. It never keeps more than its limit.
///
/// A pinned value gives no room to others; pinned ones take at most half of the limit, so that there is always room for what
/// comes and goes.
package final class BoundedCache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private let state: Mutex<State>

  /// Keeps at most `limit` bytes.
  package init(limit: Int) { state = Mutex(State(limit: max(0, limit))) }

  /// Bytes kept at most. What no longer fits goes at once, pinned values last.
  package var limit: Int {
    get { state.withLock { $0.limit } }
    set {
      let dropped = state.withLock { state in
        state.limit = max(0, newValue)
        return state.makeRoom(0) + (state.byteCount > state.limit ? state.removeAll() : [])
      }
      withExtendedLifetime(dropped) {}
    }
  }

  /// The value, if it is kept; it becomes the most recently used.
  package func find(_ key: Key) -> Value? {
    state.withLock { state in
      guard !state.nodes.isEmpty, let node = state.nodes[key] else { return nil }
      if !node.isPinned {
        state.unlink(node)
        state.pushFront(node)
      }
      return node.value
    }
  }

  /// Whether a value is kept; its place among the others stays.
  package func contains(_ key: Key) -> Bool { state.withLock { !$0.nodes.isEmpty && $0.nodes[key] != nil } }

  /// Keeps a value of `byteCount` bytes, pinned where that is asked for and half of the limit allows it.
  /// - Returns: whether it is kept; a value larger than the room beside the pinned ones is not.
  @discardableResult
  package func keep(_ key: Key, _ value: Value, byteCount: Int, pinned: Bool = false) -> Bool {
    // Values are freed after the lock is given back: giving back memory takes time.
    var dropped: [Value] = []
    let kept = state.withLock { state in
      if let old = state.nodes[key] { dropped.append(state.remove(old)) }
      guard byteCount <= state.limit - state.pinnedBytes else { return false }
      dropped += state.makeRoom(byteCount)
      let isPinned = pinned && state.pinnedBytes + byteCount <= state.limit / 2
      state.add(Node(key: key, value: value, byteCount: byteCount, isPinned: isPinned))
      return true
    }
    withExtendedLifetime(dropped) {}
    return kept
  }

  /// Keeps a value where it is, where half of the limit allows it; values that are not kept are left alone.
  package func pin(_ key: Key) {
    state.withLock { state in
      guard let node = state.nodes[key], !node.isPinned,
        state.pinnedBytes + node.byteCount <= state.limit / 2
      else { return }
      state.unlink(node)
      node.isPinned = true
      state.pinnedBytes += node.byteCount
    }
  }

  /// Lets a pinned value go when its turn comes; it counts as the most recently used. Others are left alone.
  package func unpin(_ key: Key) {
    state.withLock { state in
      guard let node = state.nodes[key], node.isPinned else { return }
      node.isPinned = false
      state.pinnedBytes -= node.byteCount
      state.pushFront(node)
    }
  }

  /// Forgets a value.
  package func remove(_ key: Key) {
    let dropped = state.withLock { state in state.nodes[key].map { state.remove($0) } }
    withExtendedLifetime(dropped) {}
  }

  /// Forgets all values.
  package func removeAll() {
    let dropped = state.withLock { $0.removeAll() }
    withExtendedLifetime(dropped) {}
  }

  /// Whether a value ever had to go so that another one had room.
  package var hasDropped: Bool { state.withLock { $0.hasDropped } }

  /// Bytes kept now.
  package var byteCount: Int { state.withLock { $0.byteCount } }

  /// Bytes pinned now.
  package var pinnedBytes: Int { state.withLock { $0.pinnedBytes } }

  private final class Node {
    let key: Key
    let value: Value
    let byteCount: Int
    var isPinned: Bool
    var next: Node?
    // SAFETY: nobody reads it once that node is gone: a node is unlinked, which sets its neighbours' links, before the map lets go
    // of it, and `next` owns the other way. All under the lock. Not weak: a cache hit would pay for two atomic counts.
    unowned(unsafe) var previous: Node?

    init(key: Key, value: Value, byteCount: Int, isPinned: Bool) {
      self.key = key
      self.value = value
      self.byteCount = byteCount
      self.isPinned = isPinned
    }
  }

  /// A list from the most to the least recently used of those that are not pinned, and a map into all.
  private struct State: ~Copyable {
    var limit: Int
    var nodes: [Key: Node] = [:]
    var first: Node?
    var last: Node?
    var byteCount = 0
    var pinnedBytes = 0
    var hasDropped = false

    init(limit: Int) { self.limit = limit }

    mutating func makeRoom(_ needed: Int) -> [Value] {
      var dropped: [Value] = []
      while byteCount > limit - needed, let last { dropped.append(remove(last)) }
      if !dropped.isEmpty { hasDropped = true }
      return dropped
    }

    mutating func removeAll() -> [Value] { nodes.values.map { $0 }.map { remove($0) } }

    mutating func add(_ node: Node) {
      nodes[node.key] = node
      byteCount += node.byteCount
      if node.isPinned { pinnedBytes += node.byteCount } else { pushFront(node) }
    }

    mutating func remove(_ node: Node) -> Value {
      if node.isPinned { pinnedBytes -= node.byteCount } else { unlink(node) }
      nodes[node.key] = nil
      byteCount -= node.byteCount
      return node.value
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
