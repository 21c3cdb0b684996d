#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace emily {
namespace {

constexpr size_t MOST_THREADS = 16;

size_t wanted_threads() {
  size_t count = std::max(1u, std::thread::hardware_concurrency());
  for (auto name : {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    auto value = std::getenv(name);
    if (auto said = value ? std::atoi(value) : 0; said > 0) {
      count = said;
      break;
    }
  }
  return std::min(count, MOST_THREADS);
}

// Threads that wait for work, which is of one caller at a time.
class Helpers {
 public:
  void share_out(size_t count, size_t least, Share share, void* context) {
    // More shares than threads: some are slower, or busy with something else.
    auto size = std::max({count / (4 * threads()), least, size_t(1)});
    auto shares = (count + size - 1) / size;
    std::unique_lock turn(turn_, std::defer_lock);
    if (shares < 2 || threads() < 2 || !turn.try_lock() || !started()) {
      return share(context, 0, count, 0);
    }
    {
      std::lock_guard lock(mutex_);
      next_ = 0;
      job_ = {share, context, count, size};
      thread_ = 0;
      open_ = std::min(shares - 1, running_);
    }
    for (size_t i = std::min(shares - 1, running_); i > 0; i--) {
      wake_.notify_one();
    }
    work(job_, 0);
    std::unique_lock lock(mutex_);
    open_ = 0;
    idle_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  struct Job {
    Share share;
    void* context;
    size_t count;
    size_t size;
  };

  // Whether there are any. Where the system has no more threads, there are fewer.
  bool started() {
    if (!asked_) {
      asked_ = true;
      try {
        for (; running_ + 1 < threads(); running_++) {
          std::thread([this] { serve(); }).detach();
        }
      } catch (std::exception&) {
      }
    }
    return running_ > 0;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return open_ > 0; });
      open_--;
      inside_++;
      auto job = job_;
      auto thread = ++thread_;
      lock.unlock();
      work(job, thread);
      lock.lock();
      if (--inside_ == 0) {
        idle_.notify_one();
      }
    }
  }

  void work(Job job, size_t thread) {
    size_t begin;
    while ((begin = next_.fetch_add(job.size)) < job.count) {
      job.share(
          job.context, begin, std::min(begin + job.size, job.count), thread);
    }
  }

  // Held by the caller whose job it is.
  std::mutex turn_;
  bool asked_{false};
  size_t running_{0};

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Job job_{};
  std::atomic<size_t> next_{0};
  // How many more may begin with the job, how many have, and how many have not ended.
  size_t open_{0}, thread_{0}, inside_{0};
};

} // namespace

size_t threads() {
  static const size_t count = wanted_threads();
  return count;
}

void share_out(size_t count, size_t least, Share share, void* context) {
  if (count == 0) {
    return;
  }
  // Never destroyed: its threads wait in it until the process ends.
  static auto helpers = new Helpers;
  helpers->share_out(count, least, share, context);
}

} // namespace emily
