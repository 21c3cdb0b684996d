defmodule Emily.MemoryTest do
  use ExUnit.Case, async: false

  @moduletag :native

  doctest Emily.Memory

  @megabyte 1_048_576

  test "tensors that nobody holds give their memory back" do
    before = active()

    Task.await(
      Task.async(fn ->
        tensor = Emily.op(:iota, [], type: {:u, 8}, shape: [64 * @megabyte])
        Emily.eval(tensor)
        # What earlier tests left may have gone by now.
        assert active() >= 64 * @megabyte
        assert Emily.shape(tensor) == [64 * @megabyte]
      end)
    )

    assert settled(before)
    Emily.Memory.clear_cache()
    assert Emily.Memory.stats().cache == 0
  end

  test "a process that makes large tensors one after the other does not hold them all" do
    size = 16 * @megabyte
    ones = Emily.from_binary(:binary.copy(<<1>>, size), [size], {:u, 8})
    before = active()

    peak =
      Task.await(
        Task.async(fn ->
          # With room for a million words there is no other reason to collect garbage.
          Process.flag(:min_heap_size, 1_000_000)
          :erlang.garbage_collect()

          Enum.reduce(1..60, 0, fn _, peak ->
            Emily.eval(Emily.op(:add, [ones, ones]))
            max(peak, active())
          end)
        end),
        :infinity
      )

    assert peak - before < 256 * @megabyte
  end

  test "what is beyond the limit is refused, and nothing is kept beyond the cache's" do
    zeros = fn size -> Emily.op(:add, [zero(size), zero(size)]) end
    before = Emily.Memory.set_limit(16 * @megabyte)
    on_exit(fn -> Emily.Memory.set_limit(before) end)

    assert_raise ArgumentError, ~r/\Aexpected a tensor of at most 16777216 bytes/, fn ->
      zeros.(17 * @megabyte)
    end

    assert Emily.shape(zeros.(15 * @megabyte)) == [15 * @megabyte]
    assert Emily.Memory.set_limit(before) == 16 * @megabyte

    cache = Emily.Memory.set_cache_limit(0)
    on_exit(fn -> Emily.Memory.set_cache_limit(cache) end)
    Emily.Memory.clear_cache()
    Emily.eval(zeros.(@megabyte))
    :erlang.garbage_collect()
    assert Emily.Memory.stats().cache == 0
    assert Emily.Memory.set_cache_limit(cache) == 0
  end

  # One element, however many there are to see.
  defp zero(size) do
    zero = Emily.from_binary(<<0>>, [1], {:u, 8})
    Emily.op(:broadcast, [zero], axes: [0], shape: [size])
  end

  test "limits that make no sense are refused" do
    for {bad, message} <- [
          {0, "expected :limit to be at least 1 byte, got: 0"},
          {-1, "expected :limit to be a number of bytes, got: -1"},
          {:all, "expected :limit to be a number of bytes, got: :all"}
        ] do
      assert_raise ArgumentError, message, fn -> Emily.Memory.set_limit(bad) end

      if bad != 0,
        do: assert_raise(ArgumentError, message, fn -> Emily.Memory.set_wired_limit(bad) end)
    end
  end

  # Elsewhere it would take memory from whoever else uses the machine.
  unless match?({:unix, :darwin}, :os.type()) do
    test "without Metal no memory is wired" do
      message =
        "expected :limit to be set on a machine with Metal, which alone wires memory, " <>
          "got: 1024 bytes on one without"

      assert_raise ArgumentError, message, fn -> Emily.Memory.set_wired_limit(1024) end
    end
  end

  test "the peak is the most since it was reset" do
    Emily.Memory.reset_peak()
    peak = Emily.Memory.stats().peak
    tensor = Emily.op(:iota, [], type: {:u, 8}, shape: [8 * @megabyte])
    Emily.eval(tensor)
    assert Emily.Memory.stats().peak >= peak + 8 * @megabyte
  end

  test "10,000 operations of all kinds leave the memory flat" do
    inputs = for seed <- 1..4, do: matrix(seed)
    round = fn -> Enum.each(1..100, fn step -> mixed(inputs, step) end) end
    round.()
    :erlang.garbage_collect()
    before = active()
    for _ <- 1..100, do: round.()
    :erlang.garbage_collect()
    assert settled(before)
  end

  @crowded """
  {:ok, _} = Application.ensure_all_started(:emily)
  one = Emily.from_binary(<<1>>, [], {:u, 8})
  many = Emily.op(:broadcast, [one], axes: [], shape: [2, 1_500_000_000])

  for attempt <- [
        fn -> Emily.op(:iota, [], type: {:f, 32}, shape: [2_000_000_000]) end,
        fn -> Emily.op(:as_type, [many], type: {:f, 32}) end
      ] do
    try do
      Emily.to_binary(attempt.())
    rescue
      error in ArgumentError -> IO.puts(Exception.message(error) =~ "which is what memory allows")
    end
  end

  IO.inspect(Emily.to_binary(Emily.op(:iota, [], type: {:u, 8}, shape: [3])))
  """

  # macOS does not limit the address space.
  if :os.type() == {:unix, :linux} do
    @tag :without_detector
    test "what a limited process cannot have is refused" do
      ebin = Path.join(Mix.Project.build_path(), "lib/*/ebin")
      limited = "ulimit -v 6000000; exec elixir -pa \"$1\" -e \"$2\""
      arguments = ["-c", limited, "sh", ebin, @crowded]
      assert {text, 0} = System.cmd("sh", arguments, stderr_to_stdout: true)
      assert text == "true\ntrue\n<<0, 1, 2>>\n"
    end
  end

  defp matrix(seed) do
    numbers = for(at <- 1..256, into: <<>>, do: <<:math.sin(at * seed)::float-32-native>>)
    Emily.from_binary(numbers, [16, 16], {:f, 32})
  end

  # A step reads what a few operations give; the next steps use other operations.
  defp mixed([a, b, c, d], step) do
    product = Emily.op(:dot, [a, b], contract_a: [1], contract_b: [0])

    case rem(step, 5) do
      0 -> Emily.op(:sum, [Emily.op(:exp, [product])], axes: [0])
      1 -> Emily.op(:sort, [Emily.op(:add, [product, c])], axis: 1)
      2 -> Emily.op(:concatenate, [product, Emily.op(:transpose, [d], axes: [1, 0])], axis: 0)
      3 -> Emily.op(:argmax, [Emily.op(:tanh, [product])], axis: 1)
      4 -> Emily.op(:as_type, [Emily.op(:reverse, [product], axes: [1])], type: {:s, 32})
    end
    |> Emily.to_binary()
  end

  defp active, do: Emily.Memory.stats().active

  # Another process' tensors are freed when it is gone, which may be a moment later.
  defp settled(before, attempts \\ 200) do
    cond do
      active() <= before -> true
      attempts == 0 -> flunk("expected at most #{before} active bytes, got: #{active()}")
      true -> receive(do: (:never -> :ok), after: (10 -> settled(before, attempts - 1)))
    end
  end
end
