defmodule Emily.Artifact.Lock do
  @moduledoc """
  A lock between operating-system processes that ends with its holder, even by SIGKILL.

  The holder listens on a loopback port, and a file names the port. Whoever finds the file asks the
  port: an answer with the file's own token means that the holder lives, and the connection closes
  when it is done. The files are numbered, and only the highest number counts: a holder that died
  is succeeded by creating the next number, which one process alone can do, so that no file of
  another is ever replaced.

  The lock spares work; it does not keep anyone safe. Every step of an install is a rename of
  something verified, so two at once, say on two machines that share a home folder, do no harm.
  """

  alias Emily.Artifact.LockError

  @probe_ms 5_000

  @enforce_keys [:resource, :folder, :name]
  defstruct @enforce_keys

  @typedoc "What is protected, in words, and where its files are."
  @type t :: %__MODULE__{resource: String.t(), folder: Path.t(), name: String.t()}

  @doc """
  Runs the function while holding the lock.

  `waiting` is called once, with a sentence, if somebody else holds it.
  """
  @spec with_lock(t(), (String.t() -> any()), (-> result)) :: result | {:error, LockError.t()}
        when result: var
  def with_lock(%__MODULE__{} = lock, waiting, function) do
    with {:ok, socket} <- listen(lock) do
      token = Base.encode16(:crypto.strong_rand_bytes(16))
      # The acceptor answers whoever asks, for as long as this process lives and holds the socket.
      acceptor = spawn_link(fn -> accept(socket, token) end)

      try do
        with :ok <- acquire(lock, socket, token, waiting), do: function.()
      after
        Process.unlink(acceptor)
        Process.exit(acceptor, :kill)
        :gen_tcp.close(socket)
      end
    end
  end

  @doc "The process that holds the lock now, if any does."
  @spec holder(t()) :: {:alive, pid :: String.t()} | :none
  def holder(%__MODULE__{} = lock) do
    with {:alive, connection, pid} <- holder(lock, highest(lock)) do
      :gen_tcp.close(connection)
      {:alive, pid}
    end
  end

  defp listen(lock) do
    options = [:binary, ip: {127, 0, 0, 1}, active: false, packet: :line, backlog: 64]

    with {:error, reason} <- :gen_tcp.listen(0, options) do
      failed(lock, lock.folder, "listen on a loopback port", reason)
    end
  end

  # Accepted sockets belong to this process and close when it is killed: that tells the waiting.
  defp accept(socket, token) do
    with {:ok, client} <- :gen_tcp.accept(socket) do
      :gen_tcp.send(client, token <> "\n")
      accept(socket, token)
    end
  end

  defp acquire(lock, socket, token, waiting) do
    {:ok, port} = :inet.port(socket)
    climb(lock, %{token: token, text: "#{port} #{token} #{System.pid()} #{machine()}\n"}, waiting)
  end

  defp write(lock, path, text) do
    with {:error, reason} <- File.write(path, text, [:exclusive]) do
      failed(lock, path, "write the lock's file", reason)
    end
  end

  defp climb(lock, claim, waiting) do
    highest = highest(lock)

    case holder(lock, highest) do
      {:alive, connection, pid} ->
        waiting.(
          "Waiting for process #{pid}, which holds the lock on #{lock.resource}: #{path(lock, highest)}"
        )

        # Nothing more is sent: this returns when the holder is done or dead.
        :gen_tcp.recv(connection, 0)
        :gen_tcp.close(connection)
        climb(lock, claim, fn _again -> :ok end)

      :none ->
        succeed(lock, claim, highest + 1, waiting)
    end
  end

  defp succeed(lock, claim, number, waiting) do
    path = path(lock, number)

    case create(lock, path, claim) do
      :ok ->
        # Between the look and the link others may have come and gone, and swept this number.
        if highest(lock) == number do
          for old <- numbers(lock), old < number, do: File.rm(path(lock, old))
          :ok
        else
          File.rm(path)
          climb(lock, claim, waiting)
        end

      :taken ->
        climb(lock, claim, waiting)

      {:error, error} ->
        {:error, error}
    end
  end

  # Linked into place when it is written, so that nobody reads half of it.
  defp create(lock, path, claim) do
    draft = Path.join(lock.folder, "#{lock.name}.draft-#{claim.token}")

    with :ok <- write(lock, draft, claim.text) do
      linked = File.ln(draft, path)
      File.rm(draft)

      case linked do
        :ok -> :ok
        {:error, :eexist} -> :taken
        {:error, reason} -> failed(lock, path, "link the lock's file", reason)
      end
    end
  end

  defp holder(_lock, 0), do: :none

  defp holder(lock, number) do
    with {:ok, text} <- File.read(path(lock, number)),
         [port, token, pid, machine] <- String.split(text),
         true <- machine == machine(),
         {:ok, connection} <- connect(String.to_integer(port)) do
      answer = :gen_tcp.recv(connection, 0, @probe_ms)

      if answer == {:ok, token <> "\n"} do
        {:alive, connection, pid}
      else
        # Another program got the port since.
        :gen_tcp.close(connection)
        :none
      end
    else
      _dead -> :none
    end
  end

  defp connect(port) do
    :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, packet: :line], @probe_ms)
  end

  defp highest(lock), do: lock |> numbers() |> Enum.max(fn -> 0 end)

  defp numbers(lock) do
    prefix = lock.name <> "."

    case File.ls(lock.folder) do
      {:ok, names} ->
        for name <- names,
            String.starts_with?(name, prefix),
            {number, ""} <- [name |> String.replace_prefix(prefix, "") |> Integer.parse()],
            do: number

      {:error, _reason} ->
        []
    end
  end

  defp path(lock, number), do: Path.join(lock.folder, "#{lock.name}.#{number}")

  defp machine do
    {:ok, name} = :inet.gethostname()
    List.to_string(name)
  end

  defp failed(lock, path, action, reason) do
    {:error, %LockError{resource: lock.resource, path: path, action: action, reason: reason}}
  end
end
