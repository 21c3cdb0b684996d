defmodule Emily.Test.Faults do
  @moduledoc """
  What can go wrong between a release and an install: one row each.

  A row is `{name, place, fault, elixir, rust}`. `place` says what `fault` is:

    * `:sidecar`, `:signature`, `:archive` - a line for that file's requests, as
      `Emily.Test.HttpServer` takes it, or a list of lines, after which all is well
    * `:served` - a function from the test's context to the files that differ from the release's
    * `:tcp`, `:tls` - what `Emily.Test.TcpServer` does to a connection, over `http` and `https`
    * `:certificate` - options of `Emily.Test.Certificates`, `:self_signed` or `:unknown`
    * `:url` - an address to install from

  `elixir` is the type of the error, or `:heals` if an attempt that is repeated succeeds. `rust` says
  the same of `cargo xtask install`: `:refused` or `:heals`.
  """

  alias Emily.Artifact

  alias Emily.Artifact.{
    ArchiveError,
    CertificateError,
    Checksum,
    ChecksumError,
    HttpError,
    ManifestError,
    RedirectError,
    SidecarError,
    SignatureError,
    UnavailableError
  }

  alias Emily.Test.{ReleaseFactory, TcpServer}

  @kib 1_024
  @archive_bytes 1_024 * @kib

  def all,
    do:
      statuses() ++
        wire() ++ lengths() ++ tls() ++ redirects() ++ small_files() ++ archives() ++ cuts()

  @doc "How large the library is that makes an archive of about 1 MiB."
  def library_bytes, do: @archive_bytes

  ## What a server answers

  defp statuses do
    for code <- [
          201,
          202,
          204,
          205,
          300,
          304,
          400,
          401,
          402,
          403,
          405,
          406,
          407,
          409,
          411,
          412,
          413,
          414,
          415,
          418,
          422,
          423,
          425,
          431,
          451,
          505
        ] do
      {"status #{code}", :sidecar, raw("HTTP/1.1 #{code} Told\r\ncontent-length: 0\r\n\r\n"),
       HttpError, :refused}
    end ++
      for code <- [404, 410] do
        {"status #{code}", :sidecar, {:status, code}, UnavailableError, :refused}
      end ++
      for code <- [408, 429, 500, 501, 502, 503, 504, 507, 599] do
        {"status #{code}, time after time", :archive, {:status, code}, HttpError, :refused}
      end ++
      for code <- [408, 429, 500, 502, 504] do
        {"status #{code}, once", :archive, [{:status, code}], :heals, :heals}
      end ++
      [
        {"no archive", :archive, {:status, 404}, UnavailableError, :refused},
        {"no signature", :signature, {:status, 404}, SignatureError, :refused},
        {"no leave to read the signature", :signature, {:status, 403}, HttpError, :refused},
        {"an answer of another protocol", :sidecar, raw("SSH-2.0-OpenSSH_9.2\r\n"), HttpError,
         :refused},
        {"a status that is no number", :sidecar, raw("HTTP/1.1 OK\r\n\r\n"), HttpError, :refused},
        {"a status that is no status", :sidecar,
         raw("HTTP/1.1 99 Told\r\ncontent-length: 0\r\n\r\n"), HttpError, :refused}
      ]
  end

  ## Where a connection ends

  defp wire do
    head = "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n"

    always =
      for {phase, bytes} <- [
            {"before the answer", ""},
            {"in the status line", "HTTP/1."},
            {"in the headers", "HTTP/1.1 200 OK\r\ncontent-le"},
            {"after the headers", head},
            {"in the body", head <> "0123"}
          ],
          {word, ending} <- [{"closed", :close}, {"reset", :reset}],
          {times, line} <- [{"time after time", &Function.identity/1}, {"once", &[&1]}] do
        healing = if times == "once", do: :heals
        line = line.({:raw, bytes, ending})
        {"#{word} #{phase}, #{times}", :sidecar, line, healing || HttpError, healing || :refused}
      end

    always ++
      [
        {"nobody listens", :url, "http://localhost:#{TcpServer.closed_port()}/", HttpError,
         :refused},
        {"an unknown host", :url, "https://release.invalid/", HttpError, :refused},
        {"plain http elsewhere", :url, "http://release.invalid/", HttpError, :refused},
        {"a scheme that is none", :url, "ftp://localhost/", HttpError, :refused},
        {"a folder that is not there", :url, "file:///nowhere/at/all/", UnavailableError,
         :refused},
        {"closed on connecting", :tcp, :close, HttpError, :refused},
        {"reset on connecting", :tcp, :reset, HttpError, :refused},
        {"reset on the request", :tcp, {:reads, :reset}, HttpError, :refused},
        {"silent from the start", :tcp, :silence, HttpError, :refused},
        {"silent after the headers", :sidecar, {:raw, head, :silence}, HttpError, :refused},
        {"silent in the body", :archive, {:raw, head <> "0123", :silence}, HttpError, :refused},
        {"byte after byte", :archive, {:trickle}, HttpError, nil}
      ]
  end

  ## What an answer promises

  defp lengths do
    [
      {"less than the whole", :archive, {:short, 1_000}, ChecksumError, :refused},
      {"nothing at all", :archive, {:short, 0}, ChecksumError, :refused},
      {"an empty checksum", :sidecar, {:short, 0}, SignatureError, :refused},
      {"a length that is a word", :sidecar,
       raw("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nx"), HttpError, :refused},
      {"a negative length", :sidecar, raw("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nx"),
       HttpError, :refused},
      {"a piece of no size", :sidecar,
       raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx\r\n"), HttpError,
       :refused},
      {"a piece that is cut", :sidecar,
       raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nx"), HttpError, :refused},
      {"a checksum without an end", :sidecar, {:endless}, HttpError, :refused},
      {"a signature without an end", :signature, {:endless}, HttpError, :refused},
      {"another place in the file", :archive, [{:cut, 700_000}, {:shifted, 5}], HttpError,
       :heals},
      {"no ranges", :archive, [{:cut, 700_000}, {:whole}], :heals, :heals},
      {"a range that is refused", :archive, [{:cut, 700_000}, {:status, 416}], :heals, :heals}
    ]
  end

  ## Who a server is

  defp tls do
    today = Date.utc_today()
    day = fn days -> today |> Date.add(days) |> Date.to_erl() end

    [
      {"a certificate that has expired", :certificate, [validity: {day.(-30), day.(-2)}],
       CertificateError, :refused},
      {"a certificate of tomorrow, or a clock of yesterday", :certificate,
       [validity: {day.(2), day.(30)}], CertificateError, :refused},
      {"a certificate for another host", :certificate, [hosts: ["other.example"]],
       CertificateError, :refused},
      {"a certificate by itself", :certificate, :self_signed, CertificateError, :refused},
      {"a certificate by nobody known", :certificate, :unknown, CertificateError, :refused},
      {"no TLS at all", :tls, {:answers, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"},
       [CertificateError, HttpError], :refused},
      {"an alert in place of a handshake", :tls, {:answers, <<21, 3, 3, 0, 2, 2, 40>>},
       CertificateError, :refused},
      {"noise in place of a handshake", :tls, {:answers, :binary.copy("?", 900)},
       [CertificateError, HttpError], :refused},
      {"closed in the handshake", :tls, {:reads, :close}, [CertificateError, HttpError],
       :refused},
      {"reset in the handshake", :tls, {:reads, :reset}, [CertificateError, HttpError], :refused},
      {"closed before the handshake", :tls, :close, [CertificateError, HttpError], :refused},
      {"silent in the handshake", :tls, :silence, HttpError, :refused}
    ]
  end

  defp redirects do
    [
      {"a redirect to plain http elsewhere", :archive, {:redirect, "http://release.invalid/a"},
       RedirectError, :refused},
      {"a redirect to a file", :archive, {:redirect, "file:///etc/passwd"}, RedirectError,
       :refused},
      {"a redirect to ftp", :archive, {:redirect, "ftp://localhost/a"}, RedirectError, :refused},
      {"a redirect to itself", :archive, {:redirect, "?"}, RedirectError, :refused},
      {"a redirect to nowhere", :archive, {:status, 302}, RedirectError, :refused},
      {"a redirect to what is not there", :archive, {:redirect, "/gone"}, UnavailableError,
       :refused},
      {"a redirect to a closed port", :archive,
       {:redirect, "http://localhost:#{TcpServer.closed_port()}/"}, HttpError, :refused},
      {"a redirect to another file", :archive, {:redirect, "/other"}, ChecksumError, :refused}
    ]
  end

  ## What vouches for the archive

  defp small_files do
    sidecar = fn change ->
      {:served, &signed(&1, change.(&1.release[Artifact.sidecar(&1.artifact)]))}
    end

    signature = fn change ->
      {:served,
       fn context ->
         name = Artifact.signature(context.artifact)
         %{name => change.(context.release[name], context)}
       end}
    end

    for {name, {place, fault}, error} <- [
          {"a page in place of the checksum", sidecar.(fn _ -> "<html></html>" end),
           SidecarError},
          {"the checksum of another asset", sidecar.(&String.replace(&1, "cpu", "cuda12")),
           SidecarError},
          {"a checksum in capitals", sidecar.(&String.upcase/1), SidecarError},
          {"two checksums", sidecar.(&(&1 <> &1)), SidecarError},
          {"a checksum of other bytes",
           sidecar.(&String.replace(&1, ~r/^[0-9a-f]{64}/, Checksum.of("x"))), ChecksumError},
          {"a checksum that nobody signed", {:served, &%{Artifact.sidecar(&1.artifact) => "x"}},
           SignatureError},
          {"a signature of other bytes", signature.(fn _, c -> sign(c, "x") end), SignatureError},
          {"a signature by another key",
           signature.(fn _, c ->
             sign(%{c | key: ReleaseFactory.key()}, c.release[Artifact.sidecar(c.artifact)])
           end), SignatureError},
          {"a signature for another file",
           signature.(fn _, c ->
             ReleaseFactory.sign(c.release[Artifact.sidecar(c.artifact)], c.key, "file:other")
           end), SignatureError},
          {"a comment that was changed",
           signature.(fn text, _ ->
             String.replace(text, "trusted comment: file:", "trusted comment: file:./")
           end), SignatureError},
          {"an empty signature", signature.(fn _, _ -> "" end), SignatureError},
          {"a signature with another line", signature.(fn text, _ -> text <> "more\n" end),
           SignatureError},
          {"noise in place of a signature", signature.(fn _, _ -> <<0, 255, 254>> end),
           SignatureError}
        ],
        do: {name, place, fault, error, :refused}
  end

  ## Archives that are signed all the same

  defp archives do
    for {name, make, error} <- [
          {"no gzip file", fn _ -> "no gzip file" end, ArchiveError},
          {"an empty archive", fn _ -> "" end, ArchiveError},
          {"a cut archive", fn c -> binary_part(good(c), 0, 500) end, ArchiveError},
          {"bytes behind the archive", fn c -> good(c) <> "more" end, ArchiveError},
          {"a bomb behind the archive", fn c -> good(c) <> bomb() end, ArchiveError},
          {"a bomb in place of the archive", fn _ -> bomb() end, ArchiveError},
          {"an entry that is not listed",
           fn c -> with_entry(c, {"install.sh", "rm -rf /", []}) end, ArchiveError},
          {"an entry in another folder", fn c -> with_entry(c, {"../libmlx.so", "x", []}) end,
           ArchiveError},
          {"a link",
           fn c -> with_entry(c, {"THIRD-PARTY", "", type: ?2, link: "/etc/passwd"}) end,
           ArchiveError},
          {"an entry twice", fn c -> with_entry(c, {"LICENSE", "MIT", mode: 0o644}) end,
           ArchiveError},
          {"an entry too few", fn c -> pack(c, & &1, &Enum.drop(&1, -1)) end, ArchiveError},
          {"an entry of another size",
           fn c -> pack(c, &put_in(&1, ["files", Access.at(0), "size"], 9), & &1) end,
           ArchiveError},
          {"an entry of other bytes",
           fn c ->
             pack(c, &put_in(&1, ["files", Access.at(0), "sha256"], Checksum.of("x")), & &1)
           end, ArchiveError},
          {"no manifest", fn c -> pack(c, & &1, &tl/1) end, ArchiveError},
          {"a manifest that is no JSON",
           fn c -> pack(c, & &1, &[{"manifest.json", "{", []} | tl(&1)]) end, ManifestError},
          {"a manifest of another version",
           fn c -> pack(c, &Map.put(&1, "version", "0.0.1"), & &1) end, ManifestError},
          {"a manifest for another target",
           fn c -> pack(c, &Map.put(&1, "target", "macos-arm64"), & &1) end, ManifestError},
          {"a manifest that asks for too much",
           fn c -> pack(c, &put_in(&1, ["requires", "glibc"], "9.99"), & &1) end, ManifestError}
        ],
        do: {name, :served, &republished(&1, make.(&1)), error, :refused}
  end

  # A connection that ends after each 64 KiB of an archive of 1 MiB.
  defp cuts do
    for count <- 0..16 do
      {"cut after #{64 * count} KiB", :archive, [{:cut, 64 * count * @kib}], :heals, :heals}
    end
  end

  ## What the rows are made of

  defp raw(bytes), do: {:raw, bytes, :close}

  defp sign(context, bytes) do
    ReleaseFactory.sign(bytes, context.key, "file:" <> Artifact.sidecar(context.artifact))
  end

  defp signed(context, text) do
    %{
      Artifact.sidecar(context.artifact) => text,
      Artifact.signature(context.artifact) => sign(context, text)
    }
  end

  defp republished(context, archive),
    do: ReleaseFactory.publish(context.artifact, archive, context.key)

  defp good(context), do: context.release[context.artifact.asset]

  defp pack(context, manifest, entries) do
    context.artifact
    |> ReleaseFactory.manifest(context.files)
    |> manifest.()
    |> ReleaseFactory.entries(context.files)
    |> entries.()
    |> ReleaseFactory.pack()
  end

  defp with_entry(context, entry), do: pack(context, & &1, &(&1 ++ [entry]))

  # A hundred mebibytes in a hundred kibibytes.
  defp bomb, do: :zlib.gzip(:binary.copy(<<0>>, 100 * 1_024 * 1_024))
end
