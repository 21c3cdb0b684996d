defmodule Emily.Soak.SchedulersTest do
  use ExUnit.Case, async: false

  alias Emily.{Native, Stream}
  alias Emily.Test.Ticks

  @moduletag :native
  @moduletag timeout: :infinity

  @megabyte 1_048_576
  # The most of narrow types that is copied in on a scheduler.
  @large_narrow 32_768

  defp numbers(shape), do: Emily.op(:iota, [], type: {:f, 32}, shape: shape)

  defp ready(tensor) do
    Emily.eval(tensor)
    tensor
  end

  for {tag, length} <- [brief: 100, soak: 4_000] do
    @tag tag
    test "ticks come as they do beside another program that computes, #{length} operations long" do
      stream = Stream.new(:cpu)

      slow =
        Enum.reduce(1..unquote(length), numbers([500_000]), fn _, x ->
          Native.op(stream.ref, :sin, nil, [x])
        end)

      evaluation =
        Task.async(fn -> receive(do: (:go -> duration(fn -> Emily.eval(slow) end))) end)

      beside_emily =
        Ticks.during(fn ->
          send(evaluation.pid, :go)
          send(self(), {:took, Task.await(evaluation, :infinity)})
        end)

      took = receive(do: ({:took, took} -> took))
      idle = Ticks.during(fn -> wait(took) end)
      # MLX computes such a chain on one thread.
      beside_other = beside_a_busy_program(fn -> Ticks.during(fn -> wait(took) end) end)

      report(
        took: took / 1000,
        idle: idle,
        beside_other: beside_other,
        beside_emily: beside_emily
      )

      assert beside_emily.late <= 2 * max(beside_other.late, idle.late) + 0.02
      # A scheduler that waits for MLX ticks no sooner than MLX is done.
      assert beside_emily.latest < took / 1000 * 0.8
    end
  end

  defp report(figures), do: if(System.get_env("SHOW"), do: IO.inspect(figures))

  # A program of the system's that computes without end, until `fun` has returned.
  defp beside_a_busy_program(fun) do
    shell = System.find_executable("sh")
    port = Port.open({:spawn_executable, shell}, args: ["-c", "while :; do :; done"])
    {:os_pid, pid} = Port.info(port, :os_pid)

    try do
      fun.()
    after
      {_output, 0} = System.cmd("kill", ["-KILL", to_string(pid)])
    end
  end

  defp wait(microseconds) do
    reference = :erlang.start_timer(div(microseconds, 1000), self(), :over)
    receive(do: ({:timeout, ^reference, :over} -> :ok))
  end

  test "a process that does nothing but call Emily lets others have their turns" do
    binary = :binary.copy(<<1>>, div(@megabyte, 2))
    matrix = ready(numbers([64, 64]))

    for call <- [
          fn -> Emily.from_binary(binary, [byte_size(binary)], {:u, 8}) end,
          fn -> Emily.op(:solve, [matrix, matrix]) end
        ] do
      caller = :erlang.spawn_opt(fn -> forever(call) end, [:link, {:scheduler, 1}])
      gap = median_gap()
      Process.unlink(caller)
      Process.exit(caller, :kill)
      # The BEAM would otherwise let it make hundreds of calls.
      assert gap < 60 * max(least(call), 100)
    end
  end

  defp forever(call) do
    call.()
    forever(call)
  end

  # For how long a process that wants nothing else than to run has to wait for that.
  defp median_gap do
    parent = self()

    :erlang.spawn_opt(
      fn ->
        gaps(20, [])
        send(parent, {:gaps, gaps(100, [])})
      end,
      [:link, {:scheduler, 1}]
    )

    receive(do: ({:gaps, gaps} -> gaps |> Enum.sort() |> Enum.at(50)))
  end

  defp gaps(0, gaps), do: gaps
  defp gaps(left, gaps), do: gaps(left - 1, [duration(fn -> :erlang.yield() end) | gaps])

  test "no call holds its scheduler for longer than copying some megabytes takes" do
    binary = :binary.copy(<<1>>, @megabyte)

    copy = fn ->
      Emily.from_binary(binary_part(binary, 1, @megabyte - 1), [@megabyte - 1], {:u, 8})
    end

    most = 10 * least(copy)
    held = for {name, call} <- calls(), do: {name, least(call)}
    report([copy: least(copy)] ++ Enum.sort_by(held, &(-elem(&1, 1))))
    assert Enum.filter(held, fn {_name, time} -> time > most end) == []
  end

  # Those that make the most nodes, look at the most elements, or have the most to say.
  defp calls do
    large = ready(numbers([4096, 1024]))
    small = ready(numbers([8, 8]))

    matrix =
      ready(
        Emily.op(:add, [Emily.op(:eye, [], type: {:f, 32}, shape: [64, 64]), numbers([64, 64])])
      )

    indices = ready(Emily.op(:iota, [], type: {:s, 64}, shape: [65_536]))
    nibbles = ready(Emily.op(:iota, [], type: {:u, 4}, shape: [65_536]))
    bytes = :binary.copy(<<1>>, @large_narrow)
    many = List.duplicate(small, 1000)
    integers = Emily.op(:as_type, [large], type: {:s, 64})
    zero = Emily.op(:constant, [], value: 0, type: {:f, 32}, shape: [])

    window = %{
      window: [64, 64],
      padding: [{0, 0}, {0, 0}],
      strides: [1, 1],
      window_dilations: [1, 1]
    }

    convolution = [
      padding: [{1, 1}, {1, 1}],
      strides: [1, 1],
      input_dilation: [1, 1],
      kernel_dilation: [1, 1],
      feature_group_size: 64,
      input_permutation: [0, 1, 2, 3],
      kernel_permutation: [0, 1, 2, 3],
      output_permutation: [0, 1, 2, 3]
    ]

    [
      constant: fn -> Emily.op(:constant, [], value: 1, type: {:f, 32}, shape: [8192, 8192]) end,
      iota: fn -> numbers([8192, 8192]) end,
      slice: fn ->
        Emily.op(:slice, [large], starts: [1, 1], lengths: [99, 99], strides: [3, 3])
      end,
      take: fn -> Emily.op(:take, [large, indices], axis: 1) end,
      gather: fn ->
        Emily.op(:gather, [large, Emily.op(:reshape, [indices], shape: [65_536, 1])], axes: [0])
      end,
      dot: fn -> Emily.op(:dot, [large, large], contract_a: [1], contract_b: [1]) end,
      integer_dot: fn ->
        Emily.op(:dot, [integers, integers], contract_a: [1], contract_b: [1])
      end,
      window_max: fn -> Native.op(Stream.reference(), {:window_max, window}, nil, [large]) end,
      window_product: fn ->
        Native.op(Stream.reference(), {:window_product, window}, nil, [large])
      end,
      conv: fn ->
        Emily.op(:conv, [numbers([8, 64, 32, 32]), numbers([64, 1, 3, 3])], convolution)
      end,
      pad: fn -> Emily.op(:pad, [large, zero], padding: [{1, 1, 1}, {1, 1, 1}]) end,
      solve: fn -> Emily.op(:solve, [matrix, matrix]) end,
      svd: fn -> Emily.op(:svd, [matrix]) end,
      qr: fn -> Emily.op(:qr, [matrix]) end,
      eigh: fn -> Emily.op(:eigh, [matrix]) end,
      determinant: fn -> Emily.op(:determinant, [matrix]) end,
      sort: fn -> Emily.op(:sort, [large]) end,
      fft: fn -> Emily.op(:fft, [large], axis: 1, length: 1024) end,
      erf_inv: fn -> Emily.op(:erf_inv, [large]) end,
      population_count: fn -> Emily.op(:population_count, [integers]) end,
      concatenate: fn -> Emily.op(:concatenate, many) end,
      stack: fn -> Emily.op(:stack, many) end,
      read: fn -> Emily.to_binary(large) end,
      read_narrow: fn -> Emily.to_binary(nibbles) end,
      copy_narrow: fn -> Emily.from_binary(bytes, [2 * @large_narrow], {:u, 4}) end,
      copy_f8: fn -> Emily.from_binary(bytes, [@large_narrow], {:f, 8}) end,
      refuse: fn -> assert_raise ArgumentError, fn -> Emily.op(many, many) end end
    ]
  end

  test "what is collected is given up elsewhere" do
    large = ready(numbers([32 * @megabyte]))
    make = fn -> ready(Emily.op(:negate, [large])) end
    given_up = least(5, fn -> make.() end, &Native.deallocate/1)
    collected = Enum.min(for _ <- 1..5, do: collection(make))
    report(given_up: given_up, collected: collected)
    assert collected < given_up / 2
  end

  defp least(times, prepare, call) do
    Enum.min(
      for _ <- 1..times do
        prepared = prepare.()
        duration(fn -> call.(prepared) end)
      end
    )
  end

  # The longest that the scheduler was held when a tensor was collected.
  defp collection(make) do
    parent = self()

    :erlang.spawn_opt(
      fn ->
        Process.put(:tensor, make.())
        :erlang.garbage_collect()
        Process.delete(:tensor)
        start = System.monotonic_time(:microsecond)
        :erlang.garbage_collect()
        send(parent, {:gap, longest(start, 20_000, 0)})
      end,
      [:link, {:scheduler, 1}]
    )

    receive(do: ({:gap, gap} -> gap))
  end

  defp longest(_last, 0, longest), do: longest

  defp longest(last, left, longest) do
    :erlang.yield()
    now = System.monotonic_time(:microsecond)
    longest(now, left - 1, max(longest, now - last))
  end

  # The time of the quickest of some calls: what they take when the system leaves them alone.
  defp least(call), do: Enum.min(for _ <- 1..9, do: duration(call))

  defp duration(fun) do
    {time, _result} = :timer.tc(fun)
    time
  end
end
