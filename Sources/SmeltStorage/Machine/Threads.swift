// Threads of our own: a pool that takes part in work, and single threads that do one thing after another. A system that has no
// more threads to give is no error: whoever asks for help works alone then.

internal import CKernels
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A thread that runs `body`; nil when the system cannot start one. Ctrl-C and its kin are left to the main thread.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
  // SAFETY: the box is retained once and taken once: by the new thread, or here when there is none.
  let box = Unmanaged.passRetained(ThreadBody(body))
  #if canImport(Darwin)
    var thread: pthread_t?
    let status = pthread_create(
      &thread, nil,
      {
        ThreadBody.run($0)
        return nil
      }, box.toOpaque())
  #else
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        ThreadBody.run(argument)
        return nil
      }, box.toOpaque())
  #endif
  guard status == 0 else {
    box.release()
    return nil
  }
  return thread
}

/// Runs `body` on a thread that nobody waits for; false when the system cannot start one.
@discardableResult
package func startDetachedThread(_ body: @escaping @Sendable () -> Void) -> Bool {
  guard let thread = startThread(body) else { return false }
  pthread_detach(thread)
  return true
}

private final class ThreadBody: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }

  static func run(_ box: UnsafeMutableRawPointer) {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    Unmanaged<ThreadBody>.fromOpaque(box).takeRetainedValue().body()
  }
}

/// A mutex with one condition.
final class Monitor: @unchecked Sendable {
  // SAFETY: mutex and condition live in the object, which does not move; whoever waits holds the object, so that neither is destroyed
  // in use. `wait` without the mutex is an error of the caller that the system does not report.
  fileprivate var mutex = pthread_mutex_t()
  private var condition = pthread_cond_t()

  init() {
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&condition, nil)
  }

  deinit {
    pthread_cond_destroy(&condition)
    pthread_mutex_destroy(&mutex)
  }

  /// Runs `body` with the mutex held.
  func locked<R>(_ body: () -> R) -> R {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return body()
  }

  /// Waits until another thread wakes this one. Only within `locked`.
  func wait() { pthread_cond_wait(&condition, &mutex) }
  /// Wakes one thread that waits.
  func wakeOne() { pthread_cond_signal(&condition) }
  /// Wakes all threads that wait.
  func wakeAll() { pthread_cond_broadcast(&condition) }
}

/// A further condition under a monitor's mutex: for those who wait for something else.
final class MonitorCondition: @unchecked Sendable {
  // SAFETY: as of `Monitor`, which this object keeps.
  private let monitor: Monitor
  private var condition = pthread_cond_t()

  init(_ monitor: Monitor) {
    self.monitor = monitor
    pthread_cond_init(&condition, nil)
  }

  deinit { pthread_cond_destroy(&condition) }

  /// Waits until another thread wakes this one. Only within the monitor's `locked`.
  func wait() { pthread_cond_wait(&condition, &monitor.mutex) }
  /// Wakes one thread that waits.
  func wakeOne() { pthread_cond_signal(&condition) }
}

/// Threads that help whoever asks. They are started when they are first needed, and stay.
final class ThreadPool: @unchecked Sendable {
  // SAFETY: all variables, those of the jobs included, are read and written under `work`. A job's closure is not escaping: `run`
  // returns only when no thread is in it (`close`), and `forget` drops it before the caller's frame ends.
  static let shared = ThreadPool()

  /// Work that some threads may join.
  private final class Job {
    private var body: (@Sendable () -> Void)?
    /// Threads that may still join.
    var places: Int
    /// Threads that have joined and have not returned.
    var active = 0

    init(_ places: Int, _ body: @escaping @Sendable () -> Void) {
      self.places = places
      self.body = body
    }

    func perform() { body?() }

    /// The closure is the caller's, and must not outlive the call; a thread may hold the job a little longer.
    func forget() { body = nil }
  }

  private let work = Monitor()
  private let done = Monitor()
  /// Jobs ever opened. Read without the lock by threads that watch, who take the lock before they believe it.
  private let opened = Atomic<Int>(0)
  /// Looks at `opened`, or for the end of a job, before a thread sleeps: some 20 µs, about what falling asleep and waking up cost. A
  /// token is some hundred short jobs, one close behind the other.
  private static let looks = 1000
  /// Jobs with places left, the newest last. Guarded by `work`, as all that follows.
  private var jobs: [Job] = []
  private var threads = 0
  private var idle = 0
  /// Idle threads that look for work before they sleep.
  private var watching = 0
  /// Work within work finds no idle thread where the outer work waits, so that there are more than were asked for.
  private var limit = 0

  /// Runs `meanwhile` on this thread, and lets up to `helpers` others run `help` beside it. Whether any of them comes is not
  /// known: `meanwhile` must do all the work that they do not. Returns when those that came have returned.
  func run(helpers: Int, _ help: @Sendable () -> Void, meanwhile: () -> Void) {
    guard helpers > 0 else { return meanwhile() }
    withoutActuallyEscaping(help) { help in
      let job = Job(helpers, help)
      open(job)
      meanwhile()
      close(job)
    }
  }

  private func open(_ job: Job) {
    work.locked {
      jobs.append(job)
      limit = max(limit, 2 * job.places)
      // A thread that was woken a moment ago still counts as idle; one too few is no harm.
      for _ in 0..<max(0, min(job.places - idle, limit - threads)) {
        guard start() else {
          limit = threads  // the system has no more
          break
        }
        threads += 1
      }
      opened.add(1, ordering: .relaxed)
      let asleep = idle - watching
      let needed = job.places - watching
      if needed < asleep { for _ in 0..<max(0, needed) { work.wakeOne() } } else { work.wakeAll() }
    }
  }

  private func close(_ job: Job) {
    work.locked { jobs.removeAll { $0 === job } }
    // No thread joins any more; those that did are about to end.
    for _ in 0..<ThreadPool.looks / 16 {
      if work.locked({ job.active == 0 }) { return job.forget() }
      for _ in 0..<16 { sk_pause() }
    }
    // `active` falls under both locks.
    done.locked { while work.locked({ job.active > 0 }) { done.wait() } }
    job.forget()
  }

  private func start() -> Bool { startDetachedThread { [self] in serve() } }

  private func serve() {
    while true {
      let job = work.locked { next() }
      job.perform()
      done.locked {
        if work.locked({ leave(job) }) { done.wakeAll() }
      }
      watch()
    }
  }

  /// Waits a moment for another job before the thread sleeps.
  private func watch() {
    let before: Int? = work.locked {
      guard jobs.isEmpty else { return nil }
      idle += 1
      watching += 1
      return opened.load(ordering: .relaxed)
    }
    guard let before else { return }
    for _ in 0..<ThreadPool.looks {
      guard opened.load(ordering: .relaxed) == before else { break }
      sk_pause()
    }
    work.locked {
      idle -= 1
      watching -= 1
    }
  }

  /// Joins the newest job, once there is one.
  private func next() -> Job {
    while true {
      if let job = jobs.last {
        job.places -= 1
        job.active += 1
        if job.places == 0 { jobs.removeLast() }
        return job
      }
      idle += 1
      work.wait()
      idle -= 1
    }
  }

  /// Whether this was the last thread of a job.
  private func leave(_ job: Job) -> Bool {
    job.active -= 1
    return job.active == 0
  }
}

/// A thread that does one thing after another. Where the system has no thread to give, the caller does them itself.
final class SerialThread {
  private let line = SerialLine()
  private var thread: pthread_t?

  deinit { rest() }

  /// Does `body` after all that was given before, at some time from now on.
  func add(_ body: @escaping @Sendable () -> Void) {
    if thread == nil { thread = startThread { [line] in line.serve() } }
    guard thread != nil else { return body() }
    line.add(body)
  }

  /// Waits until no more than `rest` things are left to do.
  func drain(to rest: Int = 0) { line.drain(to: rest) }

  /// Waits until all is done, and ends the thread until there is more.
  func rest() {
    guard let thread else { return }
    line.stop()
    pthread_join(thread, nil)
    self.thread = nil
  }
}

/// What a `SerialThread` has to do. The thread holds this and not its owner, whose end is the thread's.
private final class SerialLine: @unchecked Sendable {
  // SAFETY: all variables are read and written under `monitor`; closures run outside of it, on the one thread that serves.
  private let monitor = Monitor()
  private var waiting: [@Sendable () -> Void] = []
  private var isWorking = false
  private var isStopped = false

  func add(_ body: @escaping @Sendable () -> Void) {
    monitor.locked {
      waiting.append(body)
      monitor.wakeAll()
    }
  }

  func drain(to rest: Int) {
    monitor.locked { while waiting.count + (isWorking ? 1 : 0) > rest { monitor.wait() } }
  }

  /// The thread ends once all is done.
  func stop() {
    monitor.locked {
      isStopped = true
      monitor.wakeAll()
    }
  }

  func serve() {
    while let body = monitor.locked({ next() }) {
      body()
      monitor.locked {
        isWorking = false
        monitor.wakeAll()
      }
    }
  }

  private func next() -> (@Sendable () -> Void)? {
    while waiting.isEmpty {
      guard !isStopped else {
        isStopped = false
        return nil
      }
      monitor.wait()
    }
    isWorking = true
    return waiting.removeFirst()
  }
}
