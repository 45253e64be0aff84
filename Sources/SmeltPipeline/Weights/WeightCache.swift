// Memory for weights while models run that may be larger than it: what was inflated or put in order is kept while there
// is room, what is lent from a mapping is given back to the system after use, and what comes next is read ahead.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// When weights are used again.
enum WeightReuse: Sendable {
  /// Each layer runs once.
  case never
  /// Each layer runs several times before the next: groups of tokens, or several passes.
  case withinLayers
  /// All layers run again and again: a token at a time.
  case always
}

/// The weights of one or two models that run, within a budget of a quarter of the memory allowed; of three quarters where a token runs
/// at a time, whose activations are few.
///
/// Weights that are not lent are kept least recently used; those that every token needs are pinned when they are used
/// again and half of the budget holds them. Weights lent from a mapping take none of it; where the models are larger than
/// half of the memory allowed, the pages of the least recently used are given back beyond as much again. Where layers are not run again
/// and again, a layer's pages are given back before the next one; where each runs once, all but the last few. Results do not depend on
/// the budget.
final class WeightCache: Sendable {
  private let store: Store
  private let readAhead: ReadAhead<Key>
  private let reuse: WeightReuse
  private let parallel: Parallel
  private let models: [Model]
  /// The sources' own caches, which rest meanwhile, with the limits they had.
  private let resting: [(source: any ModelSource, limit: Int)]
  /// Names of the weights that all tokens need, by layer; those outside the layers last.
  private let shared: [[WeightName]]
  private let started = monotonicSeconds()

  /// A weight of one of the models.
  struct Key: Hashable, Sendable {
    let side: Int
    let name: WeightName
  }

  /// A cache for models of one architecture.
  /// - Parameter budget: bytes of weights that are kept, and of lent ones that are not given back; by default a quarter of the memory
  ///   allowed, or three.
  init(_ models: [Model], _ reuse: WeightReuse, budget: Int? = nil, _ options: RunOptions) {
    self.models = models
    self.reuse = reuse
    parallel = options.parallel
    resting = models.map { model in
      defer { model.source.inflatedLimit = 0 }
      return (model.source, model.source.inflatedLimit)
    }
    let size = models.reduce(0) { $0 + $1.files.reduce(0) { $0 + $1.byteCount } }
    let budget = budget ?? options.maxMemory / 4 * (reuse == .always ? 3 : 1)
    let pages = size > options.maxMemory / 2 ? budget : size
    let store = Store(
      models.map(\.source), isFetched: models.contains { RemoteModels.isRemote($0.path) }, limit: budget,
      pageLimit: reuse == .never ? min(pages, WeightCache.passingPages) : pages, settles: reuse == .always)
    self.store = store
    // One thread computes alone: then pages are asked for ahead, and nothing is inflated.
    let inflates = parallel.threads > 1
    // What was fetched and looked at ahead stays in memory until it is used, beside what is on its way.
    let room = min(store.cache.limit / 4, store.isFetched ? RemoteModels.aheadBytes / 4 : .max)
    readAhead = ReadAhead(workers: max(1, parallel.threads / 2), room: room) { key, next in
      store.bases[key.side].willNeed(key.name)
      if let next { store.bases[next.side].willNeed(next.name) }
      if inflates { store.readAhead(key) }
    }
    let family = models[0].family
    var shared = [[WeightName]](repeating: [], count: family.dimensions.layers + 1)
    for spec in family.weights where spec.name.expert == nil && !spec.isCarried {
      shared[spec.layer.map { min($0, shared.count - 1) } ?? shared.count - 1].append(spec.name)
    }
    self.shared = shared
    if reuse == .always { store.pin(chosen(shared.flatMap { $0 })) }
  }

  /// Bytes of lent weights whose pages stay where each weight is used once: the next one is often beside the last, on the same pages.
  private static let passingPages = 32 << 20

  deinit { for (source, limit) in resting.reversed() { source.inflatedLimit = limit } }

  /// What the forward pass multiplies by: a model's weights through the cache.
  func weights(_ side: Int = 0) -> any Weights {
    let cached = CachedWeights(store: store, readAhead: readAhead, side: side, parallel: parallel)
    return models[side].overlaid(cached)
  }

  /// A layer is about to run; the number of layers stands for what comes after them. What all tokens need of the one
  /// after it is read ahead.
  func begin(layer: Int) {
    readAhead.turn()
    store.turn()
    if reuse != .always { store.giveBackPages() }
    if reuse == .withinLayers { store.pin(chosen(shared[layer])) }
    guard layer + 1 < shared.count, !store.isSettled(layer: layer + 1) else { return }
    let keys = keys(shared[layer + 1])
    readAhead.announce(store.announced(keys))
    store.settle(layer: layer + 1, keys)
  }

  /// These weights of all models are about to be looked at.
  func announce(_ names: [WeightName]) { readAhead.announce(store.announced(keys(names))) }

  /// The weights of these names of all models.
  private func keys(_ names: [WeightName]) -> [Key] {
    names.flatMap { name in store.bases.indices.map { Key(side: $0, name: name) } }
  }

  /// As many of some weights, in order, as half of the budget holds.
  private func chosen(_ names: [WeightName]) -> Set<Key> {
    var room = store.cache.limit / 2
    var chosen: Set<Key> = []
    for name in names {
      for (side, base) in store.bases.enumerated() {
        let size = base.sizes(of: name).content
        guard size <= room else { continue }
        room -= size
        chosen.insert(Key(side: side, name: name))
      }
    }
    return chosen
  }

  /// What the run took until now.
  func resources(spilledBytes: Int = 0) -> Resources {
    var resources = store.tally
    resources.seconds = monotonicSeconds() - started
    resources.peakMemoryBytes = peakMemoryBytes()
    resources.spilledBytes = spilledBytes
    return resources
  }

  /// Bytes of weights that are kept now.
  var byteCount: Int { store.cache.byteCount }
}

/// One model's weights through a cache.
private struct CachedWeights: Weights {
  let store: WeightCache.Store
  let readAhead: ReadAhead<WeightCache.Key>
  let side: Int
  let parallel: Parallel

  func weight(_ name: WeightName) throws -> Weight {
    let key = WeightCache.Key(side: side, name: name)
    if let settled = store.settledWeight(key) { return settled }
    readAhead.claim(key)
    return try store.weight(key, parallel)
  }

  func multiply(_ products: [(x: Matrix, name: WeightName)], parallel: Parallel) throws -> [Matrix] {
    SmeltTensors.multiply(try products.map { ($0.x, try weight($0.name)) }, parallel: parallel)
  }

  func finished(_ name: WeightName) { store.finished(WeightCache.Key(side: side, name: name)) }

  func upcoming(_ names: [WeightName]) {
    readAhead.announce(store.announced(names.map { WeightCache.Key(side: side, name: $0) }))
  }
}

extension WeightCache {
  /// What the pass and the threads that read ahead share.
  fileprivate final class Store: Sendable {
    let bases: [any ModelSource]
    /// Whether some of them are fetched from elsewhere.
    let isFetched: Bool
    let cache: BoundedCache<Key, Weight>
    /// The lent weights whose pages are not given back.
    private let pages: BoundedCache<Key, LentPages>
    private let state = Mutex(State())
    /// Whether the same weights are used again and again, a token at a time.
    private let settles: Bool
    private let settled = Mutex(Settled())

    /// Weights that stay, found with one look and nothing else: a token asks for hundreds. They stay until something has to go for the
    /// first time; from then on the caches decide.
    private struct Settled {
      var weights: [Key: Weight] = [:]
      /// Layers all of whose shared weights are among them.
      var layers: Set<Int> = []
      var isOver = false
    }

    /// Bytes of weights after which free memory goes back to the system: a layer may be many gigabytes.
    private static let trimBytes = 256 << 20

    private struct State {
      var resources = Resources()
      /// Weights between the first time they are asked for and the word that they are needed no more.
      var inUse: Set<Key> = []
      /// Weights that were read ahead and not used yet.
      var fresh: Set<Key> = []
      /// Lent weights that are in use and will be given back then.
      var passing: Set<Key> = []
      var pinned: Set<Key> = []
      /// Weights that were fetched ahead and not used yet, and after how many layers.
      var fetched: [Key: (weight: Weight, layer: Int)] = [:]
      var layers = 0
      /// Bytes that were allocated since free memory went back to the system.
      var heldSinceTrim = 0

      /// Counts a use of a weight, once from the first question to the end.
      mutating func count(_ key: Key, wasRead: Bool) {
        guard inUse.insert(key).inserted else { return }
        if wasRead { resources.cacheMisses += 1 } else { resources.cacheHits += 1 }
      }
    }

    init(_ bases: [any ModelSource], isFetched: Bool, limit: Int, pageLimit: Int, settles: Bool) {
      self.bases = bases
      self.isFetched = isFetched
      self.settles = settles
      cache = BoundedCache(limit: limit)
      pages = BoundedCache(limit: pageLimit)
    }

    var tally: Resources { state.withLock { $0.resources } }

    /// A weight that stays. Its use is counted when it ends.
    func settledWeight(_ key: Key) -> Weight? { settles ? settled.withLock { $0.weights[key] } : nil }

    /// Whether all weights that all tokens need of a layer stay.
    func isSettled(layer: Int) -> Bool { settles && settled.withLock { $0.layers.contains(layer) } }

    /// Remembers of a layer whether these, all that all tokens need of it, stay.
    func settle(layer: Int, _ keys: [Key]) {
      guard settles else { return }
      settled.withLock { settled in
        if keys.allSatisfy({ settled.weights[$0] != nil }) { settled.layers.insert(layer) }
      }
    }

    /// A weight stays, if it has room and nothing had to go until now.
    /// - Parameters:
    ///   - weight: nil for one that was read ahead: its first use is counted otherwise than those that find it.
    ///   - isKept: whether a cache has room for it.
    private func settle(_ key: Key, _ weight: Weight?, isKept: Bool = true) {
      guard settles else { return }
      let dropped = settled.withLock { settled -> [Key: Weight] in
        settled.isOver = settled.isOver || !isKept || cache.hasDropped || pages.hasDropped
        guard settled.isOver else {
          if let weight, !weight.isFetched { settled.weights[key] = weight }
          return [:]
        }
        defer { (settled.weights, settled.layers) = ([:], []) }
        return settled.weights
      }
      withExtendedLifetime(dropped) {}
    }

    /// The weight, from the cache or read on the caller's threads.
    func weight(_ key: Key, _ parallel: Parallel) throws -> Weight {
      if let kept = cache.find(key) {
        state.withLock { state in state.count(key, wasRead: state.fresh.remove(key) != nil) }
        settle(key, kept)
        return kept
      }
      if let kept = pages.find(key)?.weight {
        state.withLock { $0.count(key, wasRead: false) }
        return kept
      }
      let weight = try state.withLock { $0.fetched.removeValue(forKey: key)?.weight } ?? read(key, parallel)
      if weight.heldBytes < weight.byteCount {
        lend(key, weight)
      } else {
        state.withLock { state in
          state.resources.bytesRead += bases[key.side].sizes(of: key.name).stored
          state.count(key, wasRead: true)
        }
        settle(key, weight, isKept: hold(key, weight))
      }
      return weight
    }

    /// Reads a weight that will be asked for. Whatever is wrong with it is reported then.
    func readAhead(_ key: Key) {
      // Pages that were asked for ahead are counted when they are used.
      guard !cache.contains(key), let weight = try? read(key, .serial) else { return }
      if weight.isFetched { state.withLock { $0.fetched[key] = (weight, $0.layers) } }
      guard weight.heldBytes == weight.byteCount else { return }
      state.withLock { state in
        state.resources.bytesRead += bases[key.side].sizes(of: key.name).stored
        state.fresh.insert(key)
      }
      let isKept = hold(key, weight)
      settle(key, nil, isKept: isKept)
      if !isKept { state.withLock { _ = $0.fresh.remove(key) } }
    }

    /// A layer begins: what was fetched before the last one and was not used goes.
    func turn() {
      guard isFetched else { return }
      let gone = state.withLock { state in
        let gone = state.fetched.filter { $0.value.layer < state.layers }
        for key in gone.keys { state.fetched[key] = nil }
        state.layers += 1
        return gone
      }
      withExtendedLifetime(gone) {}
    }

    /// The weight as the container has it; what is lent of one that is inflated for the most part is copied, so that none of
    /// its pages is touched again.
    private func read(_ key: Key, _ parallel: Parallel) throws -> Weight {
      let weight = try bases[key.side].read(key.name, parallel: parallel)
      return weight.heldBytes > weight.byteCount / 2 ? try weight.held() : weight
    }

    /// Keeps what is no longer lent, for which the pages were read.
    private func hold(_ key: Key, _ weight: Weight) -> Bool {
      bases[key.side].giveBack(key.name)
      let (isPinned, leavesHoles) = state.withLock { state in
        state.heldSinceTrim += weight.byteCount
        defer { if state.heldSinceTrim > Store.trimBytes { state.heldSinceTrim = 0 } }
        return (state.pinned.contains(key), state.heldSinceTrim > Store.trimBytes)
      }
      if leavesHoles { giveBackFreeMemory() }
      return cache.keep(key, weight, byteCount: weight.byteCount, pinned: isPinned)
    }

    /// Counts the pages of a lent weight, and makes room for them. What is fetched is held as long as its pages count.
    private func lend(_ key: Key, _ weight: Weight) {
      let base = bases[key.side]
      let isResident = pages.find(key) != nil
      let stored = base.sizes(of: key.name).stored
      let isPinned = state.withLock { state in
        if !isResident && !state.passing.contains(key) { state.resources.bytesRead += stored }
        state.count(key, wasRead: !isResident)
        return state.pinned.contains(key)
      }
      let kept = weight.heldBytes == 0 || weight.isFetched ? weight : nil
      let staysResident =
        isResident || pages.keep(key, LentPages(base, key.name, kept), byteCount: stored, pinned: isPinned)
      settle(key, weight.heldBytes == 0 ? weight : nil, isKept: staysResident)
      guard !staysResident else { return }
      state.withLock { _ = $0.passing.insert(key) }
    }

    func finished(_ key: Key) {
      let goes = state.withLock { state in
        let wasCounted = !state.inUse.isEmpty && state.inUse.remove(key) != nil
        if settles, !wasCounted { state.resources.cacheHits += 1 }
        return !state.passing.isEmpty && state.passing.remove(key) != nil
      }
      if goes { bases[key.side].giveBack(key.name) }
    }

    /// Keeps these, and lets others go that were pinned before.
    func pin(_ keys: Set<Key>) {
      let old = state.withLock { state in
        defer { state.pinned = keys }
        return state.pinned.subtracting(keys)
      }
      for key in old {
        cache.unpin(key)
        pages.unpin(key)
      }
      for key in keys {
        cache.pin(key)
        pages.pin(key)
      }
    }

    /// Gives back the pages of all lent weights: what runs next has others.
    func giveBackPages() { pages.removeAll() }

    /// What there is to do for weights that come next, with what they cost. Of those that are fetched as many are asked for as there is
    /// room for, so that several connections have something to do.
    func announced(_ keys: [Key]) -> [(key: Key, cost: Int)] {
      let others =
        settles ? settled.withLock { settled in keys.filter { settled.weights[$0] == nil } } : keys
      let next = others.filter { !pages.contains($0) && !cache.contains($0) }
      if isFetched { for key in next { bases[key.side].willNeed(key.name) } }
      return next.map { ($0, bases[$0.side].sizes(of: $0.name).content) }
    }
  }

  /// The pages of a lent weight, given back when nobody keeps this any more.
  private final class LentPages: Sendable {
    private let base: any ModelSource
    private let name: WeightName
    /// The weight itself, where all of it lies in the pages (it is put together once) or is fetched (its holds go with it).
    let weight: Weight?

    init(_ base: any ModelSource, _ name: WeightName, _ weight: Weight?) {
      self.base = base
      self.name = name
      self.weight = weight
    }

    deinit { base.giveBack(name) }
  }
}
