defmodule Emily.AdoptionTest do
  @moduledoc """
  Binaries that tensors read in place: they never change, and stay for as long as they are needed, and no
  longer.
  """

  use ExUnit.Case, async: false

  alias Emily.Native

  @moduletag :native

  @megabyte 1_048_576

  # What tests before held may be collected a moment after they ended.
  setup do
    assert settled(0)
    :ok
  end

  defp adopted, do: Emily.Memory.stats().adopted
  defp active, do: Emily.Memory.stats().active

  # Runs `fun` in a process of its own, so that what it leaves is collected.
  defp isolated(fun), do: Task.await(Task.async(fun), :infinity)

  # Another process' tensors are freed when it is gone, which may be a moment later.
  defp settled(before, attempts \\ 200) do
    cond do
      adopted() == before -> true
      attempts == 0 -> flunk("expected #{before} adopted bytes, got: #{adopted()}")
      true -> receive(do: (:never -> :ok), after: (10 -> settled(before, attempts - 1)))
    end
  end

  defp bytes(tensor), do: tensor |> Emily.to_binary() |> :binary.copy()

  defp u8(binary), do: Emily.from_binary(binary, [byte_size(binary)], {:u, 8})

  describe "a binary is read in place" do
    # The VM counts its memory here.
    @tag :without_detector
    test "without MLX or the VM allocating anything" do
      binary = :binary.copy(<<1, 2, 3, 4>>, 8 * @megabyte)
      {adopted, active, binaries} = {adopted(), active(), :erlang.memory(:binary)}
      tensor = u8(binary)
      assert adopted() == adopted + 32 * @megabyte
      assert active() == active
      assert :erlang.memory(:binary) - binaries < @megabyte
      assert Emily.to_binary(Emily.op(:sum, [tensor])) == <<80 * @megabyte::32-native>>
    end

    test "in far less time than copying it takes" do
      binary = :binary.copy(<<7>>, 32 * @megabyte)

      fastest = fn fun ->
        1..5 |> Enum.map(fn _ -> elem(:timer.tc(fun, :nanosecond), 0) end) |> Enum.min()
      end

      copying = fastest.(fn -> :binary.copy(binary) end)
      assert 100 * fastest.(fn -> u8(binary) end) < copying
      tensor = u8(binary)
      assert 100 * fastest.(fn -> Emily.to_binary(tensor) end) < copying
    end

    test "at every multiple of 8 bytes, and copied elsewhere" do
      whole = for at <- 0..20_000, into: <<>>, do: <<at::32-native>>
      before = adopted()

      places =
        for start <- 0..16 do
          part = binary_part(whole, start, 40_000)
          tensor = Emily.from_binary(part, [10_000], {:f, 32})
          assert bytes(tensor) == :binary.copy(part)
          adopted = adopted() - before
          Native.deallocate(tensor)
          :erlang.garbage_collect()
          assert settled(before)
          {rem(start, 8), adopted}
        end

      assert Enum.uniq(Enum.sort(places)) == [{0, 40_000} | for(at <- 1..7, do: {at, 0})]
    end

    test "unless it begins within a byte" do
      <<_::3, odd::binary-size(2 * @megabyte), _::5>> = :rand.bytes(2 * @megabyte + 1)
      before = adopted()
      assert Emily.to_binary(u8(odd)) == odd
      assert adopted() == before
    end

    test "unless it is small, or of elements that MLX has to carry in wider ones" do
      before = adopted()
      small = :rand.bytes(1024)
      assert Emily.to_binary(u8(small)) == small
      narrow = :rand.bytes(4 * @megabyte)
      assert Emily.to_binary(Emily.from_binary(narrow, [8 * @megabyte], {:u, 4})) == narrow
      assert adopted() == before
    end
  end

  describe "a binary lives" do
    test "as long as a tensor, a lazy graph, a view or a read needs it, and no longer" do
      before = adopted()
      size = 4 * @megabyte
      fresh = fn -> u8(:binary.copy(<<5>>, size)) end
      held = fn -> adopted() - before end

      needs = %{
        nothing: fn _ -> nil end,
        tensor: fn tensor -> tensor end,
        graph: fn tensor -> Emily.op(:negate, [tensor]) end,
        long_graph: fn tensor ->
          Enum.reduce(1..1000, tensor, fn _, x -> Emily.op(:negate, [x]) end)
        end,
        part: fn tensor -> Emily.op(:slice, [tensor], starts: [8], lengths: [9], strides: [1]) end,
        read: fn tensor -> Emily.to_binary(tensor) end
      }

      for {name, need} <- needs do
        assert isolated(fn ->
                 tensor = fresh.()
                 needed = need.(tensor)
                 if name != :tensor, do: Native.deallocate(tensor)
                 :erlang.garbage_collect()
                 {name, held.(), needed && true}
               end) == {name, if(name == :nothing, do: 0, else: size), name != :nothing || nil}

        assert settled(before)
      end
    end

    test "until what was made of it is computed" do
      before = adopted()
      tensor = u8(:binary.copy(<<5>>, @megabyte))
      sum = Emily.op(:sum, [Emily.op(:negate, [tensor])])
      Native.deallocate(tensor)
      assert adopted() == before + @megabyte
      assert Emily.to_binary(sum) == <<251 * @megabyte::32-native>>
      assert adopted() == before
    end

    test "although the process that made it was killed" do
      before = adopted()
      parent = self()
      content = :rand.bytes(@megabyte)
      hash = :erlang.md5(content)

      {pid, monitor} =
        spawn_monitor(fn ->
          send(parent, u8(:binary.copy(content)))
          receive do: (:never -> :ok)
        end)

      assert_receive tensor when is_reference(tensor)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}

      for _ <- 1..8 do
        assert :erlang.md5(isolated(fn -> bytes(tensor) end)) == hash

        assert isolated(fn -> Emily.to_binary(Emily.op(:sum, [tensor])) end) ==
                 <<Enum.sum(:binary.bin_to_list(content))::32-native>>
      end

      Native.deallocate(tensor)
      assert settled(before)
    end

    test "through any number of reads and tensors of these" do
      before = adopted()
      content = :rand.bytes(40_000)

      assert isolated(fn ->
               last = Enum.reduce(1..50_000, u8(content), fn _, x -> u8(Emily.to_binary(x)) end)
               :erlang.garbage_collect()
               Emily.to_binary(last)
             end) == content

      assert settled(before)
    end
  end

  test "what is appended to a binary afterwards changes nothing" do
    # Made by appending, so that there is room behind it.
    grown = Enum.reduce(1..5_000, <<>>, fn at, binary -> <<binary::binary, at::64-native>> end)
    tensor = u8(grown)

    longer =
      Enum.reduce(1..50_000, grown, fn at, binary -> <<binary::binary, -at::64-native>> end)

    :erlang.garbage_collect()
    expected = for at <- 1..5_000, into: <<>>, do: <<at::64-native>>
    assert bytes(tensor) == expected
    assert grown == expected
    assert binary_part(longer, 0, 40_000) == expected
    assert bytes(Emily.op(:negate, [tensor])) == for(<<x <- expected>>, into: <<>>, do: <<-x>>)
  end

  for {count, kind, skipped} <- [{200, "reads", 0}, {40, "copies", 1}] do
    test "a process whose tensors it #{kind} one after the other does not keep them all" do
      size = 16 * @megabyte
      source = :binary.copy(<<1, 2, 3, 4, 5, 6, 7, 8>>, div(size, 8) + 1)
      before = adopted() + active()

      most =
        isolated(fn ->
          # With this much room there is no other reason to collect garbage.
          Process.flag(:min_heap_size, 1_000_000)
          Process.flag(:min_bin_vheap_size, 100_000_000)
          :erlang.garbage_collect()

          Enum.reduce(1..unquote(count), 0, fn _, most ->
            source |> :binary.copy() |> binary_part(unquote(skipped), size) |> u8()
            max(most, adopted() + active() - before)
          end)
        end)

      assert most >= size
      assert most < 256 * @megabyte
    end
  end
end
