# Without Nx there is no telemetry.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Telemetry.DefaultLoggerTest do
    # The logger is one for the whole VM.
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog

    alias Emily.{Backend, Telemetry}

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend({Backend, device: :cpu})
      on_exit(&Telemetry.detach_default_logger/0)
    end

    # The lines that `fun` has logged, with their levels and without their times.
    defp lines(options, fun) do
      assert Telemetry.attach_default_logger(options) == :ok
      text = capture_log([format: "[$level] $message\n", colors: [enabled: false]], fun)
      assert Telemetry.detach_default_logger() == :ok

      text
      |> String.replace(~r/\d+(\.\d+)?(µs|ms|s)\b/, "<time>")
      |> String.split("\n", trim: true)
    end

    defp lazy, do: Nx.iota({2, 3}) |> Nx.add(1)

    defp span(name, milliseconds, metadata \\ %{}) do
      duration = System.convert_time_unit(milliseconds, :millisecond, :native)
      metadata = Map.merge(%{type: {:f, 32}, shape: {2}, device: :gpu}, metadata)
      :telemetry.execute([:emily, name, :stop], %{duration: duration}, metadata)
    end

    test "writes a line for each event" do
      lines =
        lines([], fn ->
          Backend.eval(lazy())
          Nx.to_binary(lazy())
          Emily.eval(Emily.op(:iota, [], type: {:u, 8}, shape: []))
          Telemetry.fallback({:reduce, "of its\nfunction"}, [lazy(), lazy()], :gpu, fn -> 1 end)
          Telemetry.block_fallback(%Nx.Block.Phase{}, [lazy()], :cpu)
          Telemetry.compiler_fallback(:hook, "it sends", {MyModel, :step, 2})
          Telemetry.compiler_fallback(:hook, "it sends")
        end)

      assert lines == [
               "[info] emily eval of s32[2][3] on cpu took <time>",
               "[info] emily to_binary of s32[2][3] on cpu took <time> for 24 B",
               "[info] emily eval of u8 took <time>",
               "[info] emily fallback for reduce of s32[2][3], s32[2][3] on gpu took <time>, " <>
                 "because of its function",
               "[info] emily block fallback for Nx.Block.Phase of s32[2][3] on cpu",
               "[info] emily compiler fallback for MyModel.step/2 at hook, because it sends",
               "[info] emily compiler fallback for a function at hook, because it sends"
             ]
    end

    test "writes what failed as an error, in a line" do
      lines =
        lines([level: :debug], fn ->
          failing = Nx.take(Nx.iota({3}), Nx.add(Nx.tensor([7]), 0))
          assert_raise Emily.Error, fn -> Backend.eval(failing) end

          assert_raise RuntimeError, fn ->
            Telemetry.fallback({:reduce, "of it"}, [lazy()], :cpu, fn -> raise "one\n  two" end)
          end
        end)

      assert [
               "[error] emily eval of s32[1] on cpu failed after <time>: ** (Emily.Error) take failed: " <>
                 _,
               "[error] emily fallback for reduce of s32[2][3] on cpu failed after <time>: " <>
                 "** (RuntimeError) one two"
             ] = lines
    end

    test "writes what was generated, and how fast" do
      ended = %{duration: 1, tokens: 12, tokens_per_second: 1234.56}

      assert lines([], fn ->
               :telemetry.execute([:emily, :prefill, :stop], ended, %{rows: 1})
               :telemetry.execute([:emily, :decode, :stop], ended, %{rows: 2})

               :telemetry.execute([:emily, :decode, :exception], %{duration: 1}, %{
                 rows: 2,
                 kind: :exit,
                 reason: :killed,
                 stacktrace: []
               })
             end) == [
               "[info] emily prefill of 12 tokens in 1 row took <time>, 1234.6 a second",
               "[info] emily decode of 12 tokens in 2 rows took <time>, 1234.6 a second",
               "[error] emily decode of 2 rows failed after <time>: ** (exit) killed"
             ]
    end

    test "writes memory as Emily.Memory has it" do
      event = [:emily, :memory, :stats]
      measurements = %{active: 1536, peak: 3 * 1024 ** 3, cache: 0, more: 1024 ** 2 - 1}

      assert lines([], fn -> :telemetry.execute(event, measurements, %{}) end) == [
               "[info] emily memory: 1.5 KiB active, 0 B cache, 1.0 MiB more, 3.0 GiB peak"
             ]

      assert ["[info] emily memory: " <> _] = lines([], &Telemetry.memory_stats/0)
    end

    test "chooses a unit that fits" do
      for {microseconds, text} <- [
            {0, "0µs"},
            {999, "999µs"},
            {1000, "1.0ms"},
            {1_550, "1.6ms"},
            {61_000_000, "61.0s"}
          ] do
        duration = System.convert_time_unit(microseconds, :microsecond, :native)
        assert Telemetry.Line.time(duration) == text
      end
    end

    test "writes what it is asked to write" do
      everything = fn ->
        Backend.eval(lazy())
        Nx.to_binary(lazy())
        Telemetry.memory_stats()
      end

      assert ["[warning] emily to_binary of " <> _] =
               lines([events: [:to_binary], level: :warning], everything)

      assert lines([events: [:eval, :memory]], everything) |> length() == 2
    end

    test "leaves out what was not slow, and keeps what failed and what has no duration" do
      lines =
        lines([slow: 2.5], fn ->
          span(:eval, 2)
          span(:eval, 3)

          :telemetry.execute([:emily, :eval, :exception], %{duration: 1}, %{
            type: nil,
            shape: nil,
            device: nil,
            kind: :exit,
            reason: :killed,
            stacktrace: []
          })

          Telemetry.compiler_fallback(:hook, "it sends")
        end)

      assert lines == [
               "[info] emily eval of f32[2] on gpu took <time>",
               "[error] emily eval of a deallocated tensor failed after <time>: ** (exit) killed",
               "[info] emily compiler fallback for a function at hook, because it sends"
             ]
    end

    test "stays attached whatever an event carries" do
      lines =
        lines([], fn ->
          :telemetry.execute([:emily, :eval, :stop], %{duration: 1}, %{})
          :telemetry.execute([:emily, :eval, :stop], %{duration: "long"}, %{})
          :telemetry.execute([:emily, :memory, :stats], %{active: :much}, %{})
          span(:eval, 1, %{shape: [2]})
          span(:eval, 1)
        end)

      {warnings, ["[info] emily eval of f32[2] on gpu took <time>"]} = Enum.split(lines, 4)

      for warning <- warnings,
          do: assert(warning =~ ~r/^\[warning\] could not log \[:emily, .*\]: \*\* \(/)
    end

    test "is attached once" do
      assert Telemetry.attach_default_logger() == :ok
      assert Telemetry.attach_default_logger(level: :error) == {:error, :already_exists}
      assert Telemetry.detach_default_logger() == :ok
      assert Telemetry.detach_default_logger() == {:error, :not_found}
    end

    test "refuses options that do not fit" do
      subjects = "[:eval, :to_binary, :fallback, :prefill, :decode, :compiler, :block, :memory]"

      for {options, message} <- [
            {[levels: :info],
             "expected the options to be :level, :events and :slow, got: [:levels]"},
            {[level: :loud],
             "expected :level to be one of #{inspect(Logger.levels())}, got: :loud"},
            {[events: :eval], "expected :events to be a list of some of #{subjects}, got: :eval"},
            {[events: []], "expected :events to be a list of some of #{subjects}, got: []"},
            {[events: [:start]],
             "expected :events to be a list of some of #{subjects}, got: [:start]"},
            {[slow: -1], "expected :slow to be milliseconds, got: -1"},
            {[slow: "1"], "expected :slow to be milliseconds, got: \"1\""}
          ] do
        assert_raise ArgumentError, message, fn -> Telemetry.attach_default_logger(options) end
      end
    end
  end
end
