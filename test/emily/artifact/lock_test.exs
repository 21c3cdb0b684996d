defmodule Emily.Artifact.LockTest do
  use ExUnit.Case, async: true

  import Emily.Test.InstallCase, only: [temporary_folder: 0]

  alias Emily.Artifact.{Lock, LockError}

  setup do
    folder = temporary_folder()
    %{lock: %Lock{resource: "the archive", folder: folder, name: "archive"}, folder: folder}
  end

  # Takes the lock in another process and holds it until told.
  defp holder(lock) do
    test = self()

    pid =
      spawn(fn ->
        Lock.with_lock(lock, &send(test, {:waiting, self(), &1}), fn ->
          send(test, {:held, self()})

          receive do
            :release -> :ok
          end
        end)

        send(test, {:released, self()})
      end)

    pid
  end

  test "returns what the function returns", %{lock: lock} do
    assert Lock.with_lock(lock, &flunk/1, fn -> :done end) == :done
    assert Lock.with_lock(lock, &flunk/1, fn -> :again end) == :again
  end

  test "is released when the function raises", %{lock: lock} do
    assert_raise RuntimeError, fn -> Lock.with_lock(lock, &flunk/1, fn -> raise "oops" end) end
    assert Lock.with_lock(lock, &flunk/1, fn -> :done end) == :done
  end

  test "makes others wait, and says on what", %{lock: lock, folder: folder} do
    first = holder(lock)
    assert_receive {:held, ^first}
    second = holder(lock)
    assert_receive {:waiting, ^second, sentence}, 5_000

    assert sentence ==
             "Waiting for process #{System.pid()}, which holds the lock on the archive: #{folder}/archive.1"

    refute_received {:held, ^second}

    send(first, :release)
    assert_receive {:held, ^second}, 5_000
    send(second, :release)
    assert_receive {:released, ^second}, 5_000
  end

  test "lets one at a time in, however many come", %{lock: lock} do
    counter = :counters.new(2, [])

    1..20
    |> Enum.map(fn _n ->
      Task.async(fn ->
        Lock.with_lock(lock, fn _text -> :ok end, fn ->
          :counters.add(counter, 1, 1)
          inside = :counters.get(counter, 1)
          for _ <- 1..50, do: :erlang.yield()
          :counters.sub(counter, 1, 1)
          :counters.add(counter, 2, 1)
          inside
        end)
      end)
    end)
    |> Task.await_many(60_000)
    |> then(&assert Enum.uniq(&1) == [1])

    assert :counters.get(counter, 2) == 20
  end

  test "outlives a holder that was killed, at once", %{lock: lock, folder: folder} do
    ebin = Path.join(Mix.Project.app_path(), "ebin")

    script = """
    lock = %Emily.Artifact.Lock{resource: "x", folder: #{inspect(folder)}, name: "archive"}
    Emily.Artifact.Lock.with_lock(lock, &IO.puts/1, fn ->
      IO.puts("held")
      Process.sleep(:infinity)
    end)
    """

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        args: ["-pa", ebin, "-e", script]
      ])

    {:os_pid, pid} = Port.info(port, :os_pid)
    assert_receive {^port, {:data, "held\n"}}, 30_000

    waiter = holder(lock)
    assert_receive {:waiting, ^waiter, sentence}, 5_000
    assert sentence =~ "which holds the lock on the archive"
    {_, 0} = System.cmd("kill", ["-9", "#{pid}"])
    assert_receive {:held, ^waiter}, 5_000
    send(waiter, :release)
  end

  test "takes over from files of the dead, of other programs and of nobody", %{
    lock: lock,
    folder: folder
  } do
    {:ok, stranger} = :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false])
    {:ok, port} = :inet.port(stranger)
    spawn_link(fn -> answer_wrongly(stranger) end)
    {:ok, machine} = :inet.gethostname()

    File.write!(Path.join(folder, "archive.3"), "1 TOKEN 1 #{machine}\n")
    File.write!(Path.join(folder, "archive.7"), "#{port} TOKEN 1 #{machine}\n")

    assert Lock.with_lock(lock, &flunk/1, fn -> File.ls!(folder) end) |> Enum.sort() == [
             "archive.8"
           ]

    File.write!(Path.join(folder, "archive.9"), "")

    assert Lock.with_lock(lock, &flunk/1, fn -> File.ls!(folder) end) |> Enum.sort() == [
             "archive.10"
           ]
  end

  defp answer_wrongly(socket) do
    {:ok, client} = :gen_tcp.accept(socket)
    :gen_tcp.send(client, "220 another service\n")
    answer_wrongly(socket)
  end

  test "is an error where its folder is not", %{lock: lock, folder: folder} do
    lock = %{lock | folder: Path.join(folder, "missing")}
    assert {:error, %LockError{} = error} = Lock.with_lock(lock, &flunk/1, fn -> :done end)

    assert Exception.message(error) =~
             ~r{\Acould not lock the archive: failed to write the lock's file: no such file or directory\n\n  path  .*/missing/archive\.draft-[0-9A-F]+\n\nSet EMILY_CACHE to a folder of your own on a local disk and run `mix compile`\.\z}
  end
end
