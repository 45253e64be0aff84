// Single threads of our own, and what they wait with. A system that has no more threads to give is no error: whoever asks for help
// works alone then.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A thread that runs `body`; nil when the system cannot start one. Ctrl-C and its kin are left to the main thread.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
  // SAFETY: the box is retained once and taken once: by the new thread, or here if the thread cannot be created.
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
